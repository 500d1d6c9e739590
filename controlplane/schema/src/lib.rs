//! The Kubernetes API's types as data: which fields a kind has, of what type, under what protobuf number, how its lists
//! merge, and what its documentation says.
//!
//! **Guarantees**: everything here is pure: bytes and values in, values and faults out. One table, made from the
//! published API definitions, serves decoding, checking, patching and OpenAPI, so that they cannot disagree.
//!
//! **Leaves to others**: which resources are served, defaults and validation by kind (`keelson-apiserver`).
