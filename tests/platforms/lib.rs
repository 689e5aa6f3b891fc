//! Nothing: a package with only a test is none for cargo.
