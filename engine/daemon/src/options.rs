//! What one kind of destination is told besides, by `-o KEY=VALUE` as in restic.
//!
//! `sftp.args` are words for `ssh`, put together as a shell would: `-o sftp.args='-i "/a key"'`.

use crate::failure::{Failure, exit};

use engine_storage::SshProgram;

/// How `ssh` is started, by the options that were given. Of two of a kind the last counts.
pub fn ssh_of(options: &[String]) -> Result<SshProgram, Failure> {
    let mut ssh = SshProgram::default();
    for option in options {
        let words = match option.split_once('=') {
            Some(("sftp.args", words)) => words,
            _ => {
                return Err(Failure::new(format!("there is no option `{option}`"))
                    .remedy("the one there is: `-o sftp.args=WORDS`, words for `ssh`")
                    .code(exit::WRONG_USE));
            }
        };
        let Some(words) = shlex::split(words) else {
            return Err(Failure::new("a quotation mark in `sftp.args` is never closed")
                .remedy("write it as in a shell: `-o sftp.args='-i \"/a key\"'`")
                .code(exit::WRONG_USE));
        };
        ssh.arguments = words.into_iter().map(Into::into).collect();
    }
    Ok(ssh)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_put_together_as_in_a_shell_and_what_is_unknown_is_refused() {
        let of = |options: &[&str]| {
            let options: Vec<_> = options.iter().map(|&option| option.to_owned()).collect();
            ssh_of(&options).map(|ssh| ssh.arguments)
        };
        assert_eq!(of(&["sftp.args=-i '/a key' -p 22"]).unwrap(), ["-i", "/a key", "-p", "22"]);
        assert_eq!(of(&["sftp.args=-i a", "sftp.args=-i b"]).unwrap(), ["-i", "b"]);
        assert!(of(&[]).unwrap().is_empty());
        for wrong in ["sftp.args='", "sftp.command=x", "s3.layout=default", ""] {
            assert!(of(&[wrong]).is_err(), "{wrong}");
        }
    }
}
