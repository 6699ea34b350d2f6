//! Plans as tables: what is written in which order, and what is refused with which words.

mod copies;
mod effective;
mod neighbours;
