//! What `hearth` does on a developer's machine: Lambda's Invoke API, and a PostgreSQL of its own.

mod api;
mod aws_clients;
mod command_line;
mod commands;
mod own_database;
mod refusals;
mod streaming;
mod waiting;
