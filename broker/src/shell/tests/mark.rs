use lintas_config::HighWater;
use lintas_proto::schema::DirectoryBundle;

use super::*;
use crate::testing::put;

/// What a start says about the folder.
async fn start(folder: &Path) -> Result<(), String> {
    let broker = run(&Folder::at(folder), async {}, |_| {}).await;
    broker.map_err(|error| error.to_string())
}

fn version(folder: &Path) -> u64 {
    HighWater::decode(&std::fs::read(folder.join("directory.mark")).unwrap()).unwrap().roster_version()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_directory_does_not_come_back() {
    let (mut world, folder) = scene();
    let path = folder.path();
    let first = world.directory.bytes().clone();
    start(path).await.unwrap();
    assert_eq!(version(path), 1);
    world.publish_next();
    put(&path.join("directory.bin"), world.directory.bytes());
    start(path).await.unwrap();
    assert_eq!(version(path), 2);
    // The broker has its own copy, and goes on with it.
    put(&path.join("directory.bin"), &first);
    start(path).await.unwrap();
    assert_eq!(version(path), 2);
    assert_eq!(
        std::fs::read(path.join("directory.bin")).unwrap(),
        first,
        "the operator's file is not touched"
    );
    // Without the copy there is nothing to go on with; the bootstrap does not help.
    let current = path.join("directory.current");
    let own = std::fs::read(&current).unwrap();
    assert_eq!(&own, world.directory.bytes());
    std::fs::remove_file(&current).unwrap();
    let refused = start(path).await.unwrap_err();
    assert!(refused.contains("directory.bin is not taken"), "{refused}");
    assert!(refused.contains("roster version 1 was rolled back: version 2 is in force here"), "{refused}");
    put(&current, &first);
    let refused = start(path).await.unwrap_err();
    assert!(
        refused.contains("directory.current cannot be used") && refused.contains("move it away"),
        "{refused}"
    );
    assert_eq!(version(path), 2);
    put(&current, &own);
    // Nor does a mark that nobody can read.
    let mark = std::fs::read(path.join("directory.mark")).unwrap();
    put(&path.join("directory.mark"), &mark[..40]);
    let refused = start(path).await.unwrap_err();
    assert!(refused.contains("directory.mark: the high-water mark is damaged"), "{refused}");
    put(&path.join("directory.mark"), &mark);
    start(path).await.unwrap();
}

#[test]
fn a_rollback_is_exit_code_3() {
    let (mut world, folder) = scene();
    let path = folder.path();
    let first = world.directory.bytes().clone();
    world.publish_next();
    let at = Folder::at(path);
    put(&path.join("directory.bin"), world.directory.bytes());
    at.directory().unwrap();
    put(&path.join("directory.bin"), &first);
    std::fs::remove_file(path.join("directory.current")).unwrap();
    let arguments = ["lintas-broker".as_ref(), "run".as_ref(), "--data".as_ref(), path.as_os_str()];
    let code = crate::main(arguments.map(std::ffi::OsStr::to_owned));
    assert_eq!(format!("{code:?}"), format!("{:?}", std::process::ExitCode::from(3)));
}

#[tokio::test(flavor = "multi_thread")]
async fn rosters_in_between_are_walked() {
    let (mut world, folder) = scene();
    let (path, steps) = (folder.path(), folder.path().join("directory-steps"));
    start(path).await.unwrap();
    world.publish_next();
    let bundle: DirectoryBundle = canonical::decode(world.directory.bytes(), 1 << 20).unwrap();
    world.publish_next();
    put(&path.join("directory.bin"), world.directory.bytes());
    start(path).await.unwrap();
    assert_eq!(version(path), 1, "a roster is missing");
    let present = Folder::at(path).directory().unwrap();
    let refused = present.merge(world.directory.bytes(), &[]).unwrap_err().to_string();
    assert!(refused.contains("after roster version 1 comes 2, not 3"), "{refused}");
    std::fs::create_dir(&steps).unwrap();
    put(&steps.join("README.txt"), b"not a step");
    put(&steps.join("x.bin"), b"\xff");
    put(&steps.join("roster-2.bin"), &bundle.roster);
    start(path).await.unwrap();
    assert_eq!(version(path), 1, "a file that is no roster");
    let refused = Folder::at(path).operators(1).unwrap_err().to_string();
    assert!(refused.contains("x.bin is no roster"), "{refused}");
    std::fs::remove_file(steps.join("x.bin")).unwrap();
    start(path).await.unwrap();
    assert_eq!(version(path), 3);
    for version in 1..=3 {
        assert!(path.join(format!("rosters/00000{version}.bin")).exists(), "{version}");
    }
}

/// The files that a change writes, in its order.
const FILES: [&str; 4] = ["rosters/000003.bin", "directory.current", "directory.mark", "directory.earlier"];

#[tokio::test(flavor = "multi_thread")]
async fn wherever_a_change_is_cut_a_start_goes_on() {
    let (mut world, folder) = scene();
    let path = folder.path();
    start(path).await.unwrap();
    world.publish_next();
    put(&path.join("directory.bin"), world.directory.bytes());
    start(path).await.unwrap();
    let read = || FILES.map(|name| std::fs::read(path.join(name)).ok());
    let before = read();
    let earlier = *world.directory.hash();
    world.publish_next();
    let next = world.next_keyset("KH");
    world.put_keyset(next);
    let newest = world.directory.bytes().clone();
    put(&path.join("directory.bin"), &newest);
    start(path).await.unwrap();
    let after = read();
    for written in 0..=FILES.len() {
        // Without directory.bin it is the broker's own files that must agree.
        for operator in [true, false] {
            for (at, name) in FILES.iter().enumerate() {
                match if at < written { &after[at] } else { &before[at] } {
                    Some(bytes) => put(&path.join(name), bytes),
                    None => std::fs::remove_file(path.join(name)).unwrap(),
                }
            }
            let _ = std::fs::remove_file(path.join("directory.bin"));
            if operator {
                put(&path.join("directory.bin"), &newest);
            }
            start(path).await.unwrap_or_else(|error| panic!("{written} {operator}: {error}"));
            let expected = if operator || written >= 2 { 3 } else { 2 };
            assert_eq!(version(path), expected, "{written} {operator}");
            let remembered = std::fs::read_to_string(path.join("directory.earlier")).unwrap();
            assert!(remembered.contains(&lintas_proto::id::hex(&earlier)), "{written} {operator}");
        }
    }
}
