//! Every seed and every input that was once a finding holds.

use std::path::Path;

#[test]
fn the_corpus_holds() {
    for (name, target) in clawgate_fuzz::TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("corpus")
            .join(name);
        let mut seeds = 0;
        for entry in std::fs::read_dir(&folder).expect("each target has a corpus") {
            let path = entry.expect("the folder can be read").path();
            println!("{}", path.display());
            target(&std::fs::read(&path).expect("a seed can be read"));
            seeds += 1;
        }
        assert!(seeds > 2, "{name} has only {seeds} seeds");
    }
}
