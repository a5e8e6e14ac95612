//! A certificate from an authority that speaks ACME (RFC 8555), and the next one in time.
//!
//! ```text
//! order      a certificate for the names
//! challenge  answered over plain HTTP, below /.well-known/acme-challenge/ (http-01)
//! finish     a key of its own each time; it and the chain come into one file, by one rename
//! renew      when two thirds of the certificate's life are over
//! ```
//!
//! Whatever fails, the certificate in use stays in use, and the failure is said.
//!
//! **Not here:** how a certificate is read and used (`supervisor-depot`).

use crate::depot::clock;
use crate::network;
use crate::problem::{Problem, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, BodyWrapper, BytesResponse, ChallengeType,
    HttpClient, Identifier, NewAccount, NewOrder, Order, OrderStatus, RetryPolicy,
};
use std::fs::{DirBuilder, File};
use std::future::Future;
use std::io::Read;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;
use supervisor_depot::{Certificates, Challenges, write_whole};

/// An answer of the authority is not longer than this.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// The account's file is not longer than this.
const ACCOUNT_BYTES_MAX: u64 = 64 * 1024;
/// Account and certificate have keys in them: for their owner alone.
const SECRET_MODE: u32 = 0o600;
/// How long the authority may take to look, and to sign.
const PATIENCE: Duration = Duration::from_secs(300);
/// After a failure it is tried again so soon, then ever later: authorities count failures.
const AGAIN_MIN: Duration = Duration::from_secs(10);
const AGAIN_MAX: Duration = Duration::from_secs(6 * 3600);
/// How often it is looked whether it is time.
const LOOK_EVERY: Duration = Duration::from_secs(3600);

/// What is asked, of whom.
pub struct Asking {
    /// The names the certificate is to be for.
    pub names: Vec<String>,
    /// The authority's directory.
    pub directory: String,
    /// Where it may write to.
    pub mail: Option<String>,
    /// Where account and certificate are kept.
    pub folder: PathBuf,
    /// Where its challenges are answered.
    pub challenges: Challenges,
}

/// Where account and certificate of a depot in `root` are kept.
pub fn folder(root: &Path) -> PathBuf {
    root.join("acme")
}

/// The certificate that is kept, or a stand-in nobody trusts until the first one comes.
pub fn at_hand(root: &Path) -> Result<Certificates> {
    let folder = folder(root);
    let cannot = |error| Problem::new(format!("cannot make {}", folder.display())).because(error);
    DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(cannot)?;
    let made = rcgen::generate_simple_self_signed(Vec::new())
        .map_err(|error| Problem::new("cannot make a key").because(error))?;
    let stand_in = format!("{}{}", made.cert.pem(), made.signing_key.serialize_pem());
    Ok(Certificates::read_or(&certificate(&folder), stand_in.as_bytes())?)
}

fn certificate(folder: &Path) -> PathBuf {
    folder.join("certificate.pem")
}

/// Asks for the next certificate whenever it is time, for ever.
pub async fn keep_certified(asking: &Asking, certificates: &Certificates) {
    let mut again = AGAIN_MIN;
    loop {
        let (now, due) = (clock().seconds(), certificates.is_due_at().seconds());
        if now < due {
            tokio::time::sleep(Duration::from_secs(due - now).min(LOOK_EVERY)).await;
            continue;
        }
        let done = match asking.ask().await {
            Ok(()) => certificates.reload().map_err(Problem::from),
            Err(problem) => Err(problem),
        };
        asking.challenges.clear();
        let days = certificates.days_left(clock());
        match done {
            Ok(()) => {
                again = AGAIN_MIN;
                tracing::info!("a new certificate is in use, for {days} days");
                // One that lasts for seconds is renewed each second, not without a breath.
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Err(problem) => {
                let why = problem.for_people();
                tracing::warn!("the old certificate stays, for {days} days: {why}");
                tokio::time::sleep(again).await;
                again = (again * 3).min(AGAIN_MAX);
            }
        }
    }
}

impl Asking {
    /// Asks for a certificate, and keeps it.
    async fn ask(&self) -> Result<()> {
        let account = self.account().await?;
        let names: Vec<_> = self.names.iter().map(|name| Identifier::Dns(name.clone())).collect();
        let mut order = account.new_order(&NewOrder::new(&names)).await.map_err(refused)?;
        self.answer(&mut order).await?;
        let patience = RetryPolicy::new().timeout(PATIENCE);
        if order.poll_ready(&patience).await.map_err(refused)? != OrderStatus::Ready {
            return Err(Problem::new(
                "the certificate authority does not believe that the names are ours",
            )
            .remedy(
                "see that each name of --acme leads to this server's --listen at port 80, \
                     from the internet",
            ));
        }
        let key = order.finalize().await.map_err(refused)?;
        let chain = order.poll_certificate(&patience).await.map_err(refused)?;
        let both = format!("{chain}{key}");
        Ok(write_whole(&certificate(&self.folder), both.as_bytes(), SECRET_MODE)?)
    }

    /// Holds the answers the authority will look for, and tells it so.
    async fn answer(&self, order: &mut Order) -> Result<()> {
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(refused)?;
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            let Some(mut challenge) = authorization.challenge(ChallengeType::Http01) else {
                return Err(Problem::new("the certificate authority has no challenge over HTTP")
                    .remedy("take another authority, or a certificate from files: --tls-cert"));
            };
            self.challenges.hold(&challenge.token, challenge.key_authorization().as_str());
            challenge.set_ready().await.map_err(refused)?;
        }
        Ok(())
    }

    /// Our account there: the one that is kept, or a new one, if that was with somebody else.
    async fn account(&self) -> Result<Account> {
        let path = self.folder.join("account.json");
        let mut kept = Vec::new();
        let read =
            File::open(&path).and_then(|file| file.take(ACCOUNT_BYTES_MAX).read_to_end(&mut kept));
        let known = read.ok().and_then(|_| serde_json::from_slice::<Known>(&kept).ok());
        let builder = Account::builder_with_http(Box::new(Line(network::client(0)?)));
        if let Some(known) = known.filter(|known| known.directory == self.directory) {
            return builder.from_credentials(known.credentials).await.map_err(refused);
        }
        let contact = self.mail.as_ref().map(|mail| format!("mailto:{mail}"));
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        let asked = NewAccount {
            contact: &contact,
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let created = builder.create(&asked, self.directory.clone(), None).await;
        let (account, credentials) = created.map_err(refused)?;
        let known = Known { directory: self.directory.clone(), credentials };
        write_whole(&path, &serde_json::to_vec(&known).unwrap_or_default(), SECRET_MODE)?;
        Ok(account)
    }
}

/// An account, and whose it is.
#[derive(serde::Serialize, serde::Deserialize)]
struct Known {
    directory: String,
    credentials: AccountCredentials,
}

fn refused(error: instant_acme::Error) -> Problem {
    Problem::new("the certificate authority gives no certificate").because(error).remedy(
        "see that each name of --acme leads to this server's --listen at port 80, and that \
         --acme-directory is right; it is tried again by itself",
    )
}

/// The line to the authority.
struct Line(reqwest::Client);

type Answer = Result<BytesResponse, instant_acme::Error>;

impl HttpClient for Line {
    fn request(
        &self,
        request: http::Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
        let http = self.0.clone();
        Box::pin(async move {
            let other = |error: reqwest::Error| instant_acme::Error::Other(Box::new(error));
            let (head, body) = request.into_parts();
            let body = match body.collect().await {
                Ok(body) => body.to_bytes(),
                Err(never) => match never {},
            };
            let request = reqwest::Request::try_from(http::Request::from_parts(head, body));
            let answer = http.execute(request.map_err(other)?).await.map_err(other)?;
            let answer = http::Response::<reqwest::Body>::from(answer);
            Ok(answer.map(|body| Limited::new(body, ANSWER_BYTES_MAX)).into())
        })
    }
}
