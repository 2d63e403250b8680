"""Does the artifact say what the reference says?"""
