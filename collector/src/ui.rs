//! The web UI's files, embedded.
