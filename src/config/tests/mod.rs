//! Tests of the whole module: files in, configurations or problems out.
