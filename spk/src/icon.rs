//! One picture, the icons of every DSM.
