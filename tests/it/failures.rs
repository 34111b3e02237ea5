//! Each failure cause of the seed with its exact message, predicted in the parse list and equal at execution.
