//! What trees must look like, and what must not pass for one.

use super::*;
use crate::id::Id;
use crate::time::Time;

fn file(name: &[u8]) -> Node {
    Node::new(name, NodeKind::File)
}

fn written(nodes: &[Node]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = TreeWriter::new(&mut out);
    for node in nodes {
        writer.push(node, &mut out).unwrap();
    }
    writer.finish(&mut out);
    out
}

fn read(json: &[u8]) -> Result<Vec<Node>, TreeError> {
    TreeReader::new(json).collect()
}

/// A node in which nothing is zero or empty.
fn full(name: &[u8]) -> Node {
    Node {
        name: name.to_vec(),
        kind: NodeKind::Symlink,
        mode: 1,
        mtime: Time::utc(1, 0),
        atime: Time::utc(2, 500_000_000),
        ctime: Time { seconds: 3, nanoseconds: 1, offset_seconds: -3600 },
        uid: 2,
        gid: 3,
        user: "us<er".to_owned(),
        group: "gr\"oup".to_owned(),
        inode: 4,
        device_id: 5,
        size: 6,
        links: 7,
        link_target: b"no\xffwhere".to_vec(),
        extended_attributes: vec![
            ExtendedAttribute { name: b"user.a".to_vec(), value: vec![0; 4] },
            ExtendedAttribute { name: b"user.b".to_vec(), value: Vec::new() },
        ],
        generic_attributes: br#"{"windows.x":"AQID"}"#.to_vec(),
        device: 8,
        content: Some(vec![Id::ZERO, Id::ZERO]),
        subtree: Some(Id::ZERO),
        error: "oh\nno".to_owned(),
    }
}

#[test]
fn an_empty_tree_is_the_one_restic_writes() {
    assert_eq!(written(&[]), b"{\"nodes\":[]}\n");
    assert_eq!(read(b"{\"nodes\":[]}\n").unwrap(), []);
    assert_eq!(read(b"{\"nodes\":null}").unwrap(), []);
}

#[test]
fn a_node_with_everything_has_its_fields_in_gos_order_and_comes_back() {
    let zero = Id::ZERO;
    let expected = format!(
        concat!(
            r#"{{"nodes":[{{"name":"n","type":"symlink","mode":1,"mtime":"1970-01-01T00:00:01Z","#,
            r#""atime":"1970-01-01T00:00:02.5Z","ctime":"1969-12-31T23:00:03.000000001-01:00","#,
            r#""uid":2,"gid":3,"user":"us\u003cer","group":"gr\"oup","inode":4,"device_id":5,"#,
            r#""size":6,"links":7,"linktarget":"no\ufffdwhere","linktarget_raw":"bm//d2hlcmU=","#,
            r#""extended_attributes":[{{"name":"user.a","value":"AAAAAA=="}},"#,
            r#"{{"name":"user.b","value":""}}],"generic_attributes":{{"windows.x":"AQID"}},"#,
            r#""device":8,"content":["{zero}","{zero}"],"subtree":"{zero}","error":"oh\nno"}}]}}"#,
            "\n"
        ),
        zero = zero
    );
    let bytes = written(&[full(b"n")]);
    assert_eq!(String::from_utf8(bytes.clone()).unwrap(), expected);
    assert_eq!(read(&bytes).unwrap(), [full(b"n")]);
}

#[test]
fn what_is_zero_or_empty_is_left_out() {
    let zero = "0001-01-01T00:00:00Z";
    let expected = format!(
        concat!(
            r#"{{"nodes":[{{"name":"d","type":"dir","mtime":"{0}","atime":"{0}","ctime":"{0}","#,
            r#""uid":0,"gid":0,"content":null}},"#,
            r#"{{"name":"e","type":"file","mtime":"{0}","atime":"{0}","ctime":"{0}","#,
            r#""uid":0,"gid":0,"content":[]}}]}}"#,
            "\n"
        ),
        zero
    );
    let bytes = written(&[Node::new("d", NodeKind::Directory), file(b"e")]);
    assert_eq!(String::from_utf8(bytes).unwrap(), expected);
}

#[test]
fn nodes_out_of_order_are_not_written_and_are_noticed_when_read() {
    let mut out = Vec::new();
    let mut writer = TreeWriter::new(&mut out);
    writer.push(&file(b"b"), &mut out).unwrap();
    let before = out.clone();
    for name in [b"a", b"b", b"B"] {
        let refused = writer.push(&file(name), &mut out).unwrap_err();
        assert!(matches!(refused, TreeError::Order { .. }), "{refused}");
    }
    assert_eq!(out, before);
    // By bytes, not by what a person would call the alphabet.
    writer.push(&file("é".as_bytes()), &mut out).unwrap();
    writer.push(&file(b"\xff"), &mut out).unwrap();
    let swapped = String::from_utf8(written(&[file(b"a"), file(b"b")])).unwrap();
    let swapped = swapped.replace("\"a\"", "\"c\"");
    let mut reader = TreeReader::new(swapped.as_bytes());
    assert_eq!(reader.by_ref().map(Result::unwrap).count(), 2);
    assert!(!reader.was_sorted());
}

#[test]
fn names_that_lead_out_of_a_folder_are_neither_written_nor_read() {
    for name in [&b""[..], b".", b"..", b"a/b", b"/", b"a\0b"] {
        let mut out = Vec::new();
        let refused = TreeWriter::new(&mut out).push(&file(name), &mut out);
        assert!(matches!(refused, Err(TreeError::Name { .. })), "{name:?}");
        let quoted = name.escape_ascii().to_string().replace('\\', "\\\\");
        let json = String::from_utf8(written(&[file(b"x")])).unwrap();
        let json = json.replace("\"x\"", &format!("\"{quoted}\""));
        assert!(matches!(read(json.as_bytes()), Err(TreeError::Name { .. })), "{json}");
    }
}

#[test]
fn what_newer_and_other_programs_write_is_tolerated() {
    let json = concat!(
        r#"{ "version": [1, {"a":"]"}], "nodes" : [ {"later":{"x":[null]},"content":null,"#,
        r#""size":7,"type":"file","name":"a","links":null} ] } "#
    );
    let nodes = read(json.as_bytes()).unwrap();
    assert_eq!((nodes[0].size, &nodes[0].content), (7, &None));
    let raw_first =
        r#"{"nodes":[{"name":"a","type":"symlink","linktarget_raw":"/w==","linktarget":"x"}]}"#;
    assert_eq!(read(raw_first.as_bytes()).unwrap()[0].link_target, b"\xff");
}

#[test]
fn a_node_read_into_another_keeps_nothing_of_it() {
    let bytes = written(&[full(b"a"), file(b"b"), Node::new("c", NodeKind::Fifo)]);
    let mut reader = TreeReader::new(&bytes[..]);
    let mut node = full(b"before");
    let mut found = Vec::new();
    while reader.next_into(&mut node).unwrap() {
        found.push(node.clone());
    }
    assert_eq!(found, [full(b"a"), file(b"b"), Node::new("c", NodeKind::Fifo)]);
}

#[test]
fn a_tree_cut_anywhere_is_refused_and_one_changed_anywhere_does_no_harm() {
    let bytes = written(&[full(b"a"), file(b"b \xff")]);
    for at in 0..bytes.len() - 1 {
        assert!(read(&bytes[..at]).is_err(), "cut at {at}");
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            if let Ok(nodes) = read(&changed) {
                assert!(nodes.iter().all(|node| is_file_name(&node.name)));
            }
        }
    }
}

#[test]
fn no_part_of_a_node_exceeds_its_bound() {
    let with = |part: String| {
        read(format!(r#"{{"nodes":[{{"type":"file","name":"a",{part}}}]}}"#).as_bytes())
    };
    assert!(with(format!(r#""user":"{}""#, "u".repeat(TEXT_BYTES_MAX))).is_ok());
    assert!(with(format!(r#""user":"{}""#, "u".repeat(TEXT_BYTES_MAX + 1))).is_err());
    let large = "x".repeat(ATTRIBUTES_BYTES_MAX);
    assert!(with(format!(r#""generic_attributes":{{"a":"{large}"}}"#)).is_err());
    let attributes = vec![r#"{"name":"a"}"#; ATTRIBUTES_BYTES_MAX / 40].join(",");
    assert!(with(format!(r#""extended_attributes":[{attributes}]"#)).is_err());
    assert!(with(r#""content":["short"]"#.to_owned()).is_err());
    assert!(with(r#""mode":4294967296"#.to_owned()).is_err());
}
