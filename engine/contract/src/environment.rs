//! Every environment variable the engine knows, declared once.
//!
//! Only `main` of a program reads them; nothing below asks.

/// Where the repository is when `-r` is not given: a folder or a URL.
pub const REPOSITORY: &str = "HOLDFAST_REPOSITORY";

/// A file whose first line is the repository's password, when `--password-file` is not given.
///
/// There is deliberately no variable that holds the password itself: the environment of a process
/// can be read by others of the same user.
pub const PASSWORD_FILE: &str = "HOLDFAST_PASSWORD_FILE";

/// The id of the access key of a bucket, as Amazon's and restic's tools take it.
pub const S3_KEY_ID: &str = "AWS_ACCESS_KEY_ID";

/// The secret of the access key of a bucket.
pub const S3_KEY_SECRET: &str = "AWS_SECRET_ACCESS_KEY";

/// What an access key that lasts only for some hours has beside its secret.
pub const S3_KEY_TOKEN: &str = "AWS_SESSION_TOKEN";

/// The region of a bucket.
pub const S3_REGION: &str = "AWS_DEFAULT_REGION";

/// The same, in other tools' words.
pub const S3_REGION_TOO: &str = "AWS_REGION";

/// The memory plan's total in bytes, a decimal number. Without it the engine plans for itself.
pub const MEMORY_BYTES: &str = "HOLDFAST_MEMORY_BYTES";

/// Where the web console listens, whatever the settings say; see [`crate::console::Listen`].
pub const CONSOLE: &str = "HOLDFAST_CONSOLE";

/// A descriptor the daemon writes one newline to, and closes, when it is ready to work.
///
/// The protocol is the one of s6 (`notification-fd`): no newline, not ready.
pub const READY_DESCRIPTOR: &str = "HOLDFAST_READY_FD";

/// A descriptor holding an exclusive `flock`, which the daemon keeps open as long as it lives.
///
/// A supervisor that was killed and comes back finds the lock taken and knows that the engine it
/// started is still alive, whatever a PID file says.
pub const LOCK_DESCRIPTOR: &str = "HOLDFAST_LOCK_FD";

/// The engine's home, when `--home` is not given; see [`crate::layout`].
pub const HOME: &str = "HOLDFAST_HOME";
