//! The page for people: what is on the shelves, and how to add the depot to a NAS.
//!
//! It stands at `/web`, never at `/`: Package Center's "Add source" may ask there like a browser.

use crate::shelves::{Item, Shelves};
use std::fmt::Write;
use supervisor_trust::UnixSeconds;

/// The page's bytes.
pub fn page(shelves: &Shelves, base_url: &str) -> String {
    let base_url = escaped(base_url);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>Holdfast depot</title>\n\
         <style>body{{font:1em/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}}\
         td,th{{text-align:left;padding:.2em 1em .2em 0;vertical-align:top}}\
         code{{overflow-wrap:anywhere}}</style>\n\
         <h1>Holdfast depot</h1>\n\
         <p>A package source for Synology NAS. To add it: Package Center, Settings, Package \
         Sources, Add; the location is <code>{base_url}/</code></p>\n\
         <p>On DSM 6 and older, also allow packages of any publisher: Package Center, Settings, \
         General, Trust Level.</p>\n"
    );
    let newest = shelves.newest();
    if newest.is_empty() {
        page.push_str("<p>The shelves are empty.</p>\n");
    } else {
        page.push_str("<table><tr><th>Package<th>Version<th>DSM<th>Platforms<th>Size<th>SHA-256\n");
        newest.iter().for_each(|item| row(&mut page, item, &base_url));
        page.push_str("</table>\n");
    }
    page.push_str("<p>What is signed: <a href=\"metadata/root.json\">root.json</a>, ");
    page.push_str(
        "<a href=\"metadata/timestamp.json\">timestamp.json</a> (TUF 1.0).</p>\n</html>\n",
    );
    page
}

fn row(page: &mut String, item: &Item, base_url: &str) {
    let published = UnixSeconds::new(item.published_seconds).to_string();
    // Writing to a String cannot fail.
    let _ = writeln!(
        page,
        "<tr><td>{}<td><a href=\"{base_url}/packages/{}\" title=\"since {}\">{}</a>{}<td>{}\
         <td>{}<td>{:.1} MB<td><code>{}</code>",
        escaped(item.text("displayname").unwrap_or(&item.package)),
        escaped(&item.file),
        published.get(..10).unwrap_or_default(),
        escaped(&item.version),
        if item.channel == crate::Channel::Beta { " (beta)" } else { "" },
        item.dsm_major,
        escaped(&item.archs.join(" ")),
        item.bytes as f64 / 1e6,
        escaped(&item.sha256),
    );
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shelves::tests::item;

    #[test]
    fn what_a_package_says_of_itself_cannot_become_markup() {
        let mut nasty = item("1.0-1", &["x86_64"], 7);
        nasty.texts.insert("displayname".to_owned(), "<script>\"'&".to_owned());
        let mut shelves = Shelves::default();
        shelves.items.push(nasty);
        let page = page(&shelves, "http://depot\"><script>");
        assert!(page.contains("&lt;script&gt;&quot;&#39;&amp;"));
        assert!(!page.contains("<script>"));
    }
}
