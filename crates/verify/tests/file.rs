//! A bundle is read from a file a piece at a time, whatever becomes of the file meanwhile.

use std::io::{self, Cursor, Read, Seek, SeekFrom};

use clawverify::testing::{Story, bytes, seal};
use clawverify::{Code, Options, Report, Verdict, verify, verify_file};

/// A file that is another one from some byte on.
struct Unsteady {
    file: Cursor<Vec<u8>>,
    from: usize,
    becomes: fn(&mut [u8]) -> io::Result<usize>,
}

impl Read for Unsteady {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.from as u64 - self.file.position().min(self.from as u64);
        let most = buffer.len().min(left as usize);
        match most {
            0 => (self.becomes)(buffer),
            _ => self.file.read(&mut buffer[..most]),
        }
    }
}

impl Seek for Unsteady {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// Many pieces.
fn long() -> (Vec<u8>, Vec<u8>) {
    let story = Story::with_model_calls(1000);
    let bundle = seal(story.evidence(), &story.keys).to_file();
    assert!(bundle.len() > 2 << 20, "{}", bundle.len());
    (bundle, bytes(&story.keys.trust_root()))
}

fn judged(bundle: &[u8], trust: &[u8]) -> Report {
    verify_file(Cursor::new(bundle), trust, &Options::default()).expect("memory can be read")
}

#[test]
fn a_file_is_judged_as_its_bytes_are() {
    let (mut bundle, trust) = long();
    let report = judged(&bundle, &trust);
    assert_eq!(report.verdict, Verdict::Valid, "{report:#?}");
    // Wherever it is damaged, and however it is written, the long way and the short one agree.
    let written: serde_json::Value = serde_json::from_slice(&bundle).unwrap();
    let spaced = serde_json::to_vec_pretty(&written).unwrap();
    assert_eq!(judged(&spaced, &trust).verdict, Verdict::Valid);
    for n in 1..10 {
        let place = bundle.len() * n / 10;
        let was = std::mem::replace(&mut bundle[place], b'~');
        let report = judged(&bundle, &trust);
        assert_eq!(report.verdict, Verdict::Invalid, "{place}");
        let same = verify(&bundle, &trust, &Options::default());
        assert_eq!(format!("{report:?}"), format!("{same:?}"));
        bundle[place] = was;
    }
}

#[test]
fn a_file_that_cannot_be_read_is_no_verdict() {
    let (bundle, trust) = long();
    for from in [0, 1, 1 << 18, (1 << 20) + 1, bundle.len() - 1] {
        let unsteady = Unsteady {
            file: Cursor::new(bundle.clone()),
            from,
            becomes: |_| Err(io::Error::other("the disk is gone")),
        };
        let read = verify_file(unsteady, &trust, &Options::default());
        assert_eq!(read.unwrap_err().to_string(), "the disk is gone");
    }
}

#[test]
fn a_file_that_becomes_shorter_or_another_one_is_not_valid() {
    let (bundle, trust) = long();
    type Becomes = fn(&mut [u8]) -> io::Result<usize>;
    let ends: Becomes = |_| Ok(0);
    let blank: Becomes = |buffer| {
        buffer.fill(b' ');
        Ok(buffer.len())
    };
    for becomes in [ends, blank] {
        for from in [0, 1 << 18, bundle.len() - 2] {
            let file = Cursor::new(bundle.clone());
            let unsteady = Unsteady {
                file,
                from,
                becomes,
            };
            let report = verify_file(unsteady, &trust, &Options::default()).unwrap();
            assert_eq!(report.verdict, Verdict::Invalid, "{from}: {report:#?}");
            assert!(report.failed_with(Code::FileNotJson), "{from}: {report:#?}");
        }
    }
}
