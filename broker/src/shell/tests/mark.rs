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
    put(&path.join("directory.bin"), &first);
    let refused = start(path).await.unwrap_err();
    assert!(refused.contains("directory.bin is not taken"), "{refused}");
    assert!(refused.contains("roster version 1 was rolled back: version 2 is in force here"), "{refused}");
    assert_eq!(version(path), 2);
    // The bootstrap does not help either, nor does a mark that nobody can read.
    let mark = std::fs::read(path.join("directory.mark")).unwrap();
    put(&path.join("directory.mark"), &mark[..40]);
    let refused = start(path).await.unwrap_err();
    assert!(refused.contains("directory.mark: the high-water mark is damaged"), "{refused}");
    put(&path.join("directory.mark"), &mark);
    put(&path.join("directory.bin"), world.directory.bytes());
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
    at.remember(&at.directory().unwrap()).unwrap();
    put(&path.join("directory.bin"), &first);
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
    let refused = start(path).await.unwrap_err();
    assert!(refused.contains("after roster version 1 comes 2, not 3"), "{refused}");
    assert_eq!(version(path), 1);
    std::fs::create_dir(&steps).unwrap();
    put(&steps.join("README.txt"), b"not a step");
    put(&steps.join("roster-2.bin"), &bundle.roster);
    start(path).await.unwrap();
    assert_eq!(version(path), 3);
    start(path).await.unwrap();
    put(&steps.join("x.bin"), b"\xff");
    let refused = start(path).await.unwrap_err();
    assert!(refused.contains("x.bin is no roster"), "{refused}");
}
