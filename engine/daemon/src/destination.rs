//! Destinations as the daemon knows them: by the repository's id, with a password of their own.

use crate::access_key;
use crate::daemon::Daemon;
use crate::failure::Failure;
use crate::settings::Destination;
use crate::world::{self, who_we_are};
use engine_contract::control::{AddDestination, DestinationState};
use engine_storage::{Rates, SshProgram, Way, open_by, without_secret};
use engine_transfer::{Repository, TransferError, Who};

/// Bits of chance in a password we make: 20 bytes, written in 32 letters and digits.
const PASSWORD_CHANCE_BYTES: usize = 20;

/// Letters and digits nobody mixes up when copying by hand: no `i`, `l`, `o`, `u`.
const PASSWORD_LETTERS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Uses a place: opens the repository that is there, or makes one.
pub fn add(daemon: &Daemon, wanted: AddDestination) -> Result<DestinationState, Failure> {
    // Only asks whether the name may be used, before anything is made.
    let probe = Destination {
        name: wanted.name.clone(),
        location: wanted.location.clone(),
        repository_id: String::new(),
        ssh_arguments: wanted.ssh_arguments.clone(),
    };
    daemon.known().settings.clone().add_destination(probe)?;
    let access_key = wanted.access_key.as_deref().map(|lines| {
        access_key::from_text(lines).ok_or_else(|| {
            Failure::new("what came for an access key is none")
                .remedy("give `--access-key-file FILE`, or set AWS_ACCESS_KEY_ID and its secret")
        })
    });
    let access_key = access_key.transpose()?;
    let (access_key_here, ssh) = (access_key.clone(), ssh_with(&wanted.ssh_arguments));
    let way_in = Way { access_key: access_key_here, ssh, ..way(daemon, None, true)? };
    let storage = open_by(&wanted.location, &way_in)?;
    let who = who(daemon);
    let (repository, password) = match wanted.password {
        Some(password) => {
            let opened = Repository::open(storage.clone(), &password, &who, &daemon.memory);
            let repository = match opened {
                Err(TransferError::NoRepository { .. }) => {
                    Repository::init(storage, &password, &who, &daemon.memory)?
                }
                other => other?,
            };
            (repository, password)
        }
        None => {
            let password = new_password()?;
            let made = Repository::init(storage, &password, &who, &daemon.memory);
            (made.map_err(explain_existing)?, password)
        }
    };
    if let Some(key) = &access_key {
        daemon.home.keep_access_key(&wanted.name, &access_key::to_text(key))?;
    }
    daemon.home.keep_password(&wanted.name, &password)?;
    let destination = Destination {
        name: wanted.name,
        location: wanted.location,
        repository_id: repository.id().to_string(),
        ssh_arguments: wanted.ssh_arguments,
    };
    daemon.change_settings(|settings| settings.add_destination(destination.clone()))?;
    let place = without_secret(&destination.location);
    daemon.log(&format!("destination {} added: {place}", destination.name));
    Ok(state(daemon, &destination))
}

/// A destination as it stands. Its config is looked at, nothing is decrypted.
pub fn state(daemon: &Daemon, destination: &Destination) -> DestinationState {
    let opened = way(daemon, Some(destination), false)
        .and_then(|way| open_by(&destination.location, &way).map_err(Failure::from));
    let cannot_connect = match opened {
        Err(error) => Some(error.to_string()),
        Ok(storage) => match storage.size(engine_storage::Name::CONFIG) {
            Ok(_) => None,
            Err(error) => Some(error.to_string()),
        },
    };
    DestinationState {
        name: destination.name.clone(),
        location: without_secret(&destination.location),
        repository_id: destination.repository_id.clone(),
        password_file: daemon.home.password_file(&destination.name),
        cannot_connect,
    }
}

/// Opens a destination, and makes sure that it holds the repository it held before.
pub fn open(daemon: &Daemon, destination: &Destination) -> Result<Repository, Failure> {
    let password = world::read_password(&daemon.home.password_file(&destination.name))?;
    let storage = open_by(&destination.location, &way(daemon, Some(destination), true)?)?;
    let repository = Repository::open(storage, &password, &who(daemon), &daemon.memory)?
        .with_cache(&daemon.home.layout().cache());
    let found = repository.id().to_string();
    if found != destination.repository_id {
        return Err(Failure::new(format!(
            "{} holds repository {}, not {} as before",
            repository.location(),
            &found[..10],
            destination.repository_id.get(..10).unwrap_or_default()
        ))
        .remedy(
            "connect the disk that was there before; \
             to use this one too, add it as a destination of its own",
        ));
    }
    Ok(repository)
}

/// How to go to a destination: packs on their way to a server wait in the cache, since `/tmp` of a
/// NAS is small.
fn way(
    daemon: &Daemon,
    destination: Option<&Destination>,
    is_patient: bool,
) -> Result<Way, Failure> {
    let scratch = daemon.home.layout().cache();
    std::fs::create_dir_all(&scratch).map_err(|error| {
        Failure::new(format!("could not create the folder {}", scratch.display()))
            .because(error)
            .remedy("give the user the daemon runs as permission to write there")
    })?;
    let key_file = destination
        .filter(|destination| destination.location.starts_with("s3:"))
        .map(|destination| daemon.home.access_key_file(&destination.name));
    let access_key = key_file.map(|path| access_key::read(&path)).transpose()?;
    let ssh = ssh_with(destination.map_or(&[][..], |destination| &destination.ssh_arguments));
    Ok(Way { scratch, rates: Rates::default(), access_key, ssh, is_patient })
}

fn ssh_with(arguments: &[String]) -> SshProgram {
    let arguments = arguments.iter().map(Into::into).collect();
    SshProgram { arguments, ..SshProgram::default() }
}

/// Who works in a repository, for its locks.
fn who(daemon: &Daemon) -> Who {
    who_we_are(&daemon.hostname, &daemon.username)
}

fn explain_existing(error: TransferError) -> Failure {
    let exists = matches!(error, TransferError::RepositoryExists { .. });
    let failure = Failure::from(error);
    if exists {
        return failure.remedy(
            "to use it, give its password: \
             `holdfast --password-file FILE destination add NAME LOCATION`",
        );
    }
    failure
}

/// A secret nobody guesses and everybody can copy by hand: 160 bits in 32 letters and digits.
pub fn new_password() -> Result<String, Failure> {
    let mut chance = [0; PASSWORD_CHANCE_BYTES];
    getrandom::fill(&mut chance)
        .map_err(|error| Failure::new("the system gives no random numbers").because(error))?;
    let mut bits = 0u64;
    let mut bit_count = 0;
    let mut password = String::new();
    for byte in chance {
        bits = bits << 8 | u64::from(byte);
        bit_count += 8;
        while bit_count >= 5 {
            bit_count -= 5;
            password.push(char::from(PASSWORD_LETTERS[(bits >> bit_count & 31) as usize]));
        }
    }
    Ok(password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_we_make_is_long_and_never_the_same() {
        let first = new_password().unwrap();
        assert_eq!(first.len(), 32);
        assert_ne!(first, new_password().unwrap());
    }
}
