//! What an invocation meets in its guest: warmth, isolation, limits and deadlines, and what its caller gets.

mod after_answer;
mod deadlines;
mod faults;
mod isolation;
mod long_errors;
mod neighbours;
mod retiring;
mod reuse;
mod streaming;
mod streaming_failures;
mod temporary;
