//! The real binaries together: starts the whole suite on loopback and tells its story.
