//! Power cuts under load: each machine of the region has an ext4 file system of its own, and the kernel throws away what is
//! not on the disk.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{path::Path, thread::sleep, time::Duration};

use lintas_tests::{
    cut::{self, Image, Loss},
    dice::{self, Dice},
    load::{self, EndsLoad, Load, PACKETS_MAX},
    region::Region,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_lintas-demo");
const MACHINES: [&str; 3] = ["broker", "KH", "TH"];
const IMAGE_MIB: u64 = 512;
/// Which of them lose their power at once: the broker, a node, or a node with it.
const LOST: [&[usize]; 6] = [&[0], &[0], &[0, 1], &[0, 2], &[1], &[2]];

#[test]
fn a_power_cut_at_any_moment_loses_nothing_that_was_promised() {
    if !cut::is_possible() {
        return;
    }
    let rounds = dice::rounds("LINTAS_CUT_ROUNDS", 20);
    let mut dice = Dice::of("cuts");
    let about = format!("LINTAS_SEED={}", dice.seed());
    // In this order: processes end before their disks go, and these before their folder.
    let root = cut::folder();
    let disk = |name: &&str| {
        Image::new(&root.path().join(format!("{name}.img")), &root.path().join(name), IMAGE_MIB)
    };
    let mut images: Vec<Image> = MACHINES.iter().map(disk).collect();
    let mut region = Region::found(Path::new(PROGRAM), root.path(), &["KH", "TH"]);
    region.is_small();
    MACHINES.iter().for_each(|name| region.start(name));
    let (officer, folder, load) = (region.officer("TH"), root.path().to_owned(), Load::default());
    let kept = std::thread::scope(|threads| {
        let sends = threads.spawn(|| load.send(&officer, &folder));
        let _ends = EndsLoad(&load);
        for round in 0..rounds {
            load.more((PACKETS_MAX / usize::try_from(rounds).unwrap()).clamp(4, 12));
            sleep(Duration::from_millis(dice.roll(300)));
            let lost = *dice.pick(&LOST);
            let loss =
                *dice.pick(&[Loss::Everything, Loss::Everything, Loss::Everything, Loss::Data, Loss::None]);
            println!(
                "round {round}: {:?}, {loss:?}",
                lost.iter().map(|at| MACHINES[*at]).collect::<Vec<_>>()
            );
            lost.iter().for_each(|at| images[*at].cut(loss));
            // With the power everything that runs is gone.
            lost.iter().for_each(|at| region.kill(MACHINES[*at]));
            lost.iter().for_each(|at| images[*at].restore());
            lost.iter().for_each(|at| region.start(MACHINES[*at]));
        }
        load.end();
        sends.join().unwrap()
    });
    println!("{} packets were kept", kept.len());
    assert!(kept.len() as u64 >= rounds, "{about}: too little load to prove anything: {}", kept.len());
    load::has_arrived(&region, &kept, &about);
    load::log_holds(&region, &about);
    load::ends_whole(&mut region, &about);
}
