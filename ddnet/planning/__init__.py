"""What a preset asks for, what each job needs, and which code it depends on; free of heavy imports."""
