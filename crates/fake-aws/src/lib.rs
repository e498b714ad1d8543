//! Development only: the AWS calls that the suite makes, on loopback, with AWS' real limits.
