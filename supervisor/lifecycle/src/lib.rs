//! Restart and upgrade policy as tables of state and event
