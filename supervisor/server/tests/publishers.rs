//! Packages signed for DSM 5.1 to 6.2: the keys that boxes are handed, with stock `gpg` in the
//! place of a box. It makes the key, imports what is served, and judges what is served.

mod keeper;

use keeper::{Keeper, Said};
use serde_json::Value;
use spk::dsm::Dsm;
use spk::openpgp::{self, Signer};
use spk::read::Package;
use spk::signature::{self, Signed};
use std::io::Read;

const BOX_5: &str = "?arch=avoton&major=5&minor=2&build=5967&language=enu";
const BOX_6: &str = "?arch=avoton&major=6&minor=2&build=25556&language=enu";

/// `gpg` with a home of its own, which begins empty.
fn gpg(keeper: &Keeper, home: &str, words: &[&str]) -> Said {
    let folder = keeper.path(home);
    if !folder.exists() {
        std::fs::create_dir(&folder).unwrap();
        keeper.runs("chmod", &["700", home]).well();
    }
    let quiet = ["--homedir", home, "--batch", "--quiet", "--yes", "--passphrase", ""];
    keeper.runs("gpg", &[&quiet[..], words].concat())
}

fn makes_a_key(keeper: &Keeper, home: &str, address: &str) {
    gpg(keeper, home, &["--quick-generate-key", address, "rsa2048", "sign", "never"]).well();
}

/// What `spk sign` does with a package.
fn sign(keeper: &Keeper, file: &str) {
    let secret = ["--armor", "--export-secret-keys", "anna@example.org"];
    let secret = gpg(keeper, "anna", &secret).well();
    std::fs::write(keeper.path("secret.asc"), &secret).unwrap();
    let signer = Signer::parse(secret.as_bytes(), None).unwrap();
    let path = keeper.path(file);
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let at = u32::try_from(since.as_secs()).unwrap();
    let package = Package::read(std::fs::File::open(&path).unwrap()).unwrap();
    let signature = signer.sign(Signed::of(&package, &path).unwrap(), at).unwrap();
    signature::attach(&path, &openpgp::armored(&signature).unwrap(), &path).unwrap();
    std::fs::write(keeper.path("public.asc"), signer.public_key().unwrap()).unwrap();
}

fn asked(keeper: &Keeper, url: &str, query: &str) -> Value {
    let said = keeper.runs("curl", &["-sSf", "--noproxy", "*", &format!("{url}/{query}")]).well();
    serde_json::from_str(&said).unwrap()
}

fn keyrings(keeper: &Keeper, url: &str, query: &str) -> Vec<String> {
    let keys = asked(keeper, url, query)["keyrings"].clone();
    serde_json::from_value(keys).unwrap()
}

#[test]
fn a_box_imports_the_key_it_is_handed_and_believes_the_package_it_was_handed_it_for() {
    let keeper = Keeper::new();
    makes_a_key(&keeper, "anna", "anna@example.org");
    let file = keeper.builds_for(Dsm::Six, "hello", "1.0.0-1");
    sign(&keeper, &file);
    keeper.types(&["publish", "--root", "depot", &file]).well();
    let serving = keeper.serves("depot", &[], 1);
    let url = &serving.urls[0];
    assert!(keyrings(&keeper, url, BOX_6).is_empty());

    let add = |key| keeper.types(&["publisher", "add", "--root", "depot", key]);
    let said = add("public.asc").well();
    assert!(said.contains("anna@example.org"), "{said}");
    let said = add("secret.asc").with_a_remedy();
    assert!(said.contains("a secret key"), "{said}");
    let handed = keyrings(&keeper, url, BOX_6);
    assert_eq!(handed.len(), 1);
    let exported = keeper.types(&["publisher", "export", "--root", "depot"]).well();
    assert_eq!(exported, handed[0]);

    // A box that knows nobody yet: it has what was served, and nothing else.
    std::fs::write(keeper.path("handed.asc"), &handed[0]).unwrap();
    gpg(&keeper, "box", &["--import", "handed.asc"]).well();
    let listed = gpg(&keeper, "box", &["--with-colons", "--list-keys"]).well();
    let own = keeper.types(&["publisher", "list", "--root", "depot"]).well();
    let (id, _) = own.split_once(' ').unwrap();
    assert!(listed.contains(id) && listed.contains("anna@example.org"), "{listed}\n{own}");

    let list = asked(&keeper, url, BOX_6);
    let link = list["packages"][0]["link"].as_str().unwrap();
    keeper.runs("curl", &["-sSf", "--noproxy", "*", "-o", "fetched.spk", link]).well();
    let fetched = keeper.path("fetched.spk");
    let package = Package::read(std::fs::File::open(&fetched).unwrap()).unwrap();
    std::fs::write(keeper.path("member"), package.content(signature::MEMBER).unwrap()).unwrap();
    let mut message = Vec::new();
    Signed::of(&package, &fetched).unwrap().read_to_end(&mut message).unwrap();
    std::fs::write(keeper.path("message"), &message).unwrap();
    gpg(&keeper, "box", &["--verify", "member", "message"]).well();
    message[0] ^= 1;
    std::fs::write(keeper.path("message"), &message).unwrap();
    assert_ne!(gpg(&keeper, "box", &["--verify", "member", "message"]).code, 0);
}

#[test]
fn keys_are_handed_to_the_dsm_that_know_them_until_they_are_removed() {
    let keeper = Keeper::new();
    for name in ["anna", "bert"] {
        makes_a_key(&keeper, name, &format!("{name}@example.org"));
        let armored = gpg(&keeper, name, &["--armor", "--export"]).well();
        std::fs::write(keeper.path(&format!("{name}.asc")), armored).unwrap();
        let key = format!("{name}.asc");
        keeper.types(&["publisher", "add", "--root", "depot", &key]).well();
    }
    let serving = keeper.serves("depot", &[], 1);
    let url = &serving.urls[0];
    for query in [BOX_5, BOX_6] {
        assert_eq!(keyrings(&keeper, url, query).len(), 2, "{query}");
    }
    let before_5_1 = asked(&keeper, url, "?arch=avoton&major=5&minor=0&build=4493");
    assert_eq!(before_5_1, Value::Array(vec![]));
    for query in ["", "?arch=avoton&major=7&minor=2&build=72806"] {
        assert_eq!(asked(&keeper, url, query).get("keyrings"), None, "{query}");
    }
    let listed = keeper.types(&["publisher", "list", "--root", "depot"]).well();
    let bert = listed.lines().find(|line| line.contains("bert@example.org")).unwrap();
    let (id, _) = bert.split_once(' ').unwrap();
    keeper.types(&["publisher", "remove", "--root", "depot", id]).well();
    keeper.types(&["publisher", "remove", "--root", "depot", id]).with_a_remedy();
    let left = keyrings(&keeper, url, BOX_6);
    std::fs::write(keeper.path("left.asc"), left.concat()).unwrap();
    let shown = gpg(&keeper, "box", &["--show-keys", "--with-colons", "left.asc"]).well();
    assert!(shown.contains("anna@example.org") && !shown.contains("bert@"), "{shown}");
    // Signed as before: who verifies sees no difference.
    keeper.types(&["keys", "plan", "--root", "depot"]).well();
}
