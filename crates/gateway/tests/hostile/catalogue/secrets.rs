//! D: secrets that an answer could hold.
