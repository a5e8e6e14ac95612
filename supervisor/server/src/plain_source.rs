//! A source of packages that signs nothing, asked as a NAS asks it: a package is taken if its file
//! is the one the keeper has pinned by its SHA-256.

use crate::command_line::{MirrorFrom, Pin};
use crate::depot::clock;
use crate::network::{body, client, unreachable};
use crate::place::Depot;
use crate::problem::{Problem, Result};
use sha2::{Digest, Sha256};
use std::io::Write;
use std::path::PathBuf;
use supervisor_depot::Published;

/// A longer catalog is not read.
const CATALOG_BYTES_MAX: usize = 32 << 20;
/// A longer package is not fetched.
const PACKAGE_BYTES_MAX: u64 = 4 << 30;
/// Redirects followed for one package: some sources keep their files elsewhere.
const REDIRECTS_MAX: usize = 5;

/// Fetches every pinned package and puts them on the shelves: all of them, or none.
pub async fn mirror(depot: &Depot, url: &str, from: &MirrorFrom) -> Result<Vec<Published>> {
    let http = client(REDIRECTS_MAX)?;
    let platform = from.platform.as_deref().unwrap_or_default();
    let build = from.build.unwrap_or_default();
    let query = [
        ("language", "enu".to_owned()),
        ("arch", platform.to_owned()),
        ("unique", format!("synology_{platform}_mirror")),
        ("build", build.to_string()),
        ("major", dsm_major(build).to_string()),
        ("minor", "0".to_owned()),
        ("package_update_channel", "stable".to_owned()),
    ];
    let answer = http.get(url).query(&query).send().await.map_err(unreachable)?;
    let catalog: serde_json::Value =
        serde_json::from_slice(&body(answer, CATALOG_BYTES_MAX).await?).map_err(|error| {
            Problem::new("what answers there is no source of packages")
                .because(error)
                .remedy("give the address as Package Center wants it")
        })?;
    let rows = catalog.get("packages").unwrap_or(&catalog);
    let folder = depot.lists().await?.join("mirrors");
    std::fs::create_dir_all(&folder).map_err(|error| {
        Problem::new(format!("cannot make {}", folder.display())).because(error)
    })?;
    let mut fetched = Fetched { folder, files: Vec::new() };
    for pin in &from.pin {
        let rows = rows.as_array().into_iter().flatten();
        let link =
            rows.filter(|row| row["package"] == *pin.package).find_map(|row| row["link"].as_str());
        let Some(link) = link else {
            return Err(Problem::new(format!("the source offers no {}", pin.package)).remedy(
                "see what it offers on a box of that platform and build, or ask as another one",
            ));
        };
        fetched.fetch(&http, link, pin).await?;
    }
    depot.change(|root| Ok(supervisor_depot::publish(root, &fetched.files, clock())?)).await
}

/// The major version of DSM a build belongs to.
fn dsm_major(build: u32) -> u32 {
    match build {
        ..4418 => 4,
        4418..7135 => 5,
        7135..40_000 => 6,
        _ => 7,
    }
}

/// Files that were fetched; they are removed when this goes away.
struct Fetched {
    folder: PathBuf,
    files: Vec<PathBuf>,
}

impl Fetched {
    async fn fetch(&mut self, http: &reqwest::Client, link: &str, pin: &Pin) -> Result<()> {
        let path = self.folder.join(format!(".new-{}", pin.sha256));
        self.files.push(path.clone());
        let cannot =
            |error| Problem::new(format!("cannot write {}", path.display())).because(error);
        let mut file = std::fs::File::create(&path).map_err(cannot)?;
        let mut answer = http.get(link).send().await.map_err(unreachable)?;
        if !answer.status().is_success() {
            let status = answer.status();
            return Err(Problem::new(format!("the source answers {status} to its own link"))
                .remedy("try again later; its keeper may know more"));
        }
        let (mut hash, mut length) = (Sha256::new(), 0);
        while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
            length += chunk.len() as u64;
            if length > PACKAGE_BYTES_MAX {
                return Err(Problem::new(format!("{} is longer than any package", pin.package)));
            }
            hash.update(&chunk);
            file.write_all(&chunk).map_err(cannot)?;
        }
        let found = hex::encode(hash.finalize());
        if found != pin.sha256 {
            return Err(Problem::new(format!(
                "the source's {} has the SHA-256 {found}, and {} is pinned",
                pin.package, pin.sha256
            ))
            .remedy("compare it with what its maker says; only if that is right, pin it"));
        }
        Ok(())
    }
}

impl Drop for Fetched {
    fn drop(&mut self) {
        // Copies; what cannot be removed now is in nobody's way.
        self.files.iter().for_each(|path| drop(std::fs::remove_file(path)));
    }
}
