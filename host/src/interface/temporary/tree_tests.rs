//! What a tree does, and what it charges for.

use super::*;

const CREATE: Opening = Opening {
    create: true,
    exclusive: false,
    truncate: false,
    directory: false,
    write: true,
};

fn root(pages: u64) -> Handle {
    let tree = Tree::new(pages * PAGE as u64);
    tree.root().expect("it is new")
}

fn names(directory: &Handle) -> Vec<String> {
    let mut names = Vec::new();
    while let Some((name, _)) = directory
        .entry_after(names.last().map(String::as_str))
        .expect("it is a directory")
    {
        names.push(name);
    }
    names
}

/// How many pages are left, found out by taking them.
fn left(root: &Handle) -> u64 {
    let probe = |pages: u64| {
        let file = root.open("probe", CREATE)?;
        let grown = file.set_size(pages * PAGE as u64);
        root.unlink("probe").and(grown)
    };
    (0..1000).take_while(|pages| probe(*pages).is_ok()).count() as u64
}

#[test]
fn what_is_written_is_read_across_pages() {
    let root = root(100);
    let file = root.open("file", CREATE).expect("there is room");
    let data: Vec<u8> = (0..3 * PAGE + 7).map(|index| (index % 251) as u8).collect();
    assert_eq!(file.write(Some(5), &data), Ok(data.len() as u64 + 5));
    let read = file.read(0, usize::MAX).expect("it is a file");
    assert_eq!(&read[..5], &[0; 5]);
    assert_eq!(&read[5..], &data);
    assert_eq!(
        file.read(PAGE as u64 - 1, 3),
        Ok(read[PAGE - 1..PAGE + 2].to_vec())
    );
    assert_eq!(file.read(read.len() as u64, 1), Ok(Vec::new()));
    assert_eq!(file.read(u64::MAX, 1), Ok(Vec::new()));
    assert_eq!(file.write(None, b"end"), Ok(read.len() as u64 + 3));
    assert_eq!(
        file.write(Some(u64::MAX), b"end"),
        Err(ErrorCode::FileTooLarge)
    );
    assert_eq!(file.write(Some(u64::MAX), b""), Ok(u64::MAX));
}

#[test]
fn what_is_cut_off_does_not_come_back() {
    let root = root(100);
    let file = root.open("file", CREATE).expect("there is room");
    file.write(Some(0), &[1; 2 * PAGE]).expect("there is room");
    for bytes in [PAGE as u64 + 3, PAGE as u64, 1, 0] {
        file.set_size(bytes).expect("it is less");
        file.set_size(2 * PAGE as u64).expect("there is room");
        let read = file.read(bytes, usize::MAX).expect("it is a file");
        assert!(read.len() as u64 == 2 * PAGE as u64 - bytes && read.iter().all(|byte| *byte == 0));
    }
}

#[test]
fn what_is_gone_is_not_charged_for() {
    let root = root(20);
    assert_eq!(left(&root), 20);
    root.create_directory("one").expect("there is room");
    root.create_directory("one/two").expect("there is room");
    let file = root.open("one/two/file", CREATE).expect("there is room");
    file.set_size(3 * PAGE as u64 + 1).expect("there is room");
    assert_eq!(left(&root), 20 - 2 - 5);
    assert_eq!(file.set_size(18 * PAGE as u64), Err(ErrorCode::Quota));
    assert_eq!(file.write(Some(u64::MAX / 2), b"x"), Err(ErrorCode::Quota));
    assert_eq!(left(&root), 20 - 2 - 5);
    file.set_size(PAGE as u64).expect("it is less");
    assert_eq!(left(&root), 20 - 2 - 2);
    let other = file.clone();
    root.unlink("one/two/file").expect("it is there");
    drop(file);
    assert_eq!(left(&root), 20 - 2 - 2, "it is open");
    assert_eq!(other.stat().map(|stat| stat.is_linked), Ok(false));
    drop(other);
    root.remove_directory("one/two").expect("it is empty");
    root.remove_directory("one").expect("it is empty");
    assert_eq!(left(&root), 20);
}

#[test]
fn a_name_that_is_taken_over_is_not_charged_for() {
    let root = root(20);
    for name in ["one", "other"] {
        let file = root.open(name, CREATE).expect("there is room");
        file.write(None, name.as_bytes()).expect("there is room");
    }
    root.rename("one", &root, "other").expect("both are files");
    assert_eq!((names(&root), left(&root)), (vec!["other".to_owned()], 18));
    let read = root
        .open("other", Opening::default())
        .and_then(|file| file.read(0, 9));
    assert_eq!(read, Ok(b"one".to_vec()));
}

#[test]
fn no_path_leads_out_of_its_directory() {
    let root = root(20);
    root.create_directory("in").expect("there is room");
    root.open("file", CREATE).expect("there is room");
    let inner = root.open("in", Opening::default()).expect("it is there");
    let open = |from: &Handle, path: &str| from.open(path, CREATE).map(drop);
    for path in [
        "..",
        "../file",
        "../in",
        "x/../../file",
        "/file",
        "/",
        "../../etc/passwd",
        "./..",
    ] {
        let error = open(&inner, path).expect_err(path);
        assert!(
            matches!(error, ErrorCode::NotPermitted | ErrorCode::NoEntry),
            "{path}: {error:?}"
        );
    }
    assert_eq!(open(&root, "in/../file"), Ok(()));
    assert_eq!(open(&root, "in/../../file"), Err(ErrorCode::NotPermitted));
    assert_eq!(open(&root, "file/../file"), Err(ErrorCode::NotDirectory));
    assert_eq!(open(&root, "file/"), Err(ErrorCode::NotDirectory));
    assert_eq!(open(&root, ""), Err(ErrorCode::NoEntry));
    assert_eq!(open(&root, "a\0b"), Err(ErrorCode::Invalid));
    assert_eq!(open(&root, &"x".repeat(256)), Err(ErrorCode::NameTooLong));
    assert_eq!(open(&root, &"x/".repeat(3000)), Err(ErrorCode::NameTooLong));
    assert_eq!(
        root.rename("file", &inner, "../file"),
        Err(ErrorCode::NotPermitted)
    );
    assert_eq!(names(&root), ["file", "in"]);
}

#[test]
fn no_directory_goes_into_itself() {
    let root = root(20);
    root.create_directory("one").expect("there is room");
    root.create_directory("one/two").expect("there is room");
    root.open("file", CREATE).expect("there is room");
    let two = root
        .open("one/two", Opening::default())
        .expect("it is there");
    assert_eq!(
        root.rename("one", &root, "one/two/three"),
        Err(ErrorCode::Invalid)
    );
    assert_eq!(root.rename("one", &two, "three"), Err(ErrorCode::Invalid));
    assert_eq!(root.rename("one", &root, "one"), Ok(()));
    assert_eq!(
        root.rename("one", &root, "file"),
        Err(ErrorCode::NotDirectory)
    );
    assert_eq!(
        root.rename("file", &root, "one"),
        Err(ErrorCode::IsDirectory)
    );
    assert_eq!(
        root.rename("file", &root, "file/"),
        Err(ErrorCode::NotDirectory)
    );
    root.create_directory("other").expect("there is room");
    assert_eq!(root.rename("other", &root, "one"), Err(ErrorCode::NotEmpty));
    assert_eq!(root.rename("one/two", &root, "other"), Ok(()));
    assert_eq!(root.rename("one", &two, "one"), Ok(()));
    assert_eq!(
        (names(&root), names(&two)),
        (
            vec!["file".to_owned(), "other".to_owned()],
            vec!["one".to_owned()]
        )
    );
}

#[test]
fn nothing_is_made_in_what_has_been_removed() {
    let root = root(20);
    root.create_directory("one").expect("there is room");
    let one = root.open("one", Opening::default()).expect("it is there");
    assert_eq!(root.unlink("one"), Err(ErrorCode::IsDirectory));
    root.remove_directory("one").expect("it is empty");
    assert_eq!(one.open("file", CREATE).map(drop), Err(ErrorCode::NoEntry));
    root.open("file", CREATE).expect("there is room");
    assert_eq!(root.rename("file", &one, "file"), Err(ErrorCode::NoEntry));
    assert_eq!(names(&root), ["file"]);
    drop(one);
    assert_eq!(left(&root), 19);
}

#[test]
fn what_has_been_cleared_is_gone_for_whoever_holds_it() {
    let tree = Tree::new(20 * PAGE as u64);
    let root = tree.root().expect("it is new");
    let file = root.open("file", CREATE).expect("there is room");
    tree.clear();
    assert_eq!(file.write(None, b"x"), Err(ErrorCode::BadDescriptor));
    assert_eq!(file.read(0, 1), Err(ErrorCode::BadDescriptor));
    assert_eq!(
        root.open("other", CREATE).map(drop),
        Err(ErrorCode::BadDescriptor)
    );
    assert!(tree.root().is_err());
}
