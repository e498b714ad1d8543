//! Samples in memory, and on disk. No sockets, no clock: `now` is an argument.
