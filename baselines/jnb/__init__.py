"""JNB: just noticeable blur by sparse dictionaries."""
