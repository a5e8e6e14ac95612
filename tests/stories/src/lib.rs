//! Stories: a user's day, told with the real programs
