//! Copies: what `walcast verify` and `walcast backup` read.

use super::*;

proptest! {
    #[test]
    fn copies_survive_the_wire(
        position in position(), size in page_size(), dbsum: u64, pages in 1u32..,
        hashes in proptest::collection::vec(any::<u64>(), 1..50), first in 1u32..1_000_000, lz4: bool,
    ) {
        let begin = CopyBegin { position, dbsum: DbSum(dbsum), page_count: pages, page_size: size };
        for message in [CopyMessage::Begin(begin), CopyMessage::Hashes { first_page: first, hashes }] {
            let back = CopyMessage::try_from(pb::ReadCopyResponse::from(message.clone())).expect("valid");
            prop_assert_eq!(format!("{message:?}"), format!("{back:?}"));
        }
        let request = CopyRequest { database: "app.db".into(), hashes_only: lz4, lz4 };
        let back = CopyRequest::try_from(pb::ReadCopyRequest::from(request.clone())).expect("valid");
        prop_assert_eq!(request, back);
    }

    #[test]
    fn a_copy_from_anyone_is_refused_or_in_its_bounds(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let Ok(response) = pb::ReadCopyResponse::decode(bytes.as_slice()) else { return Ok(()) };
        match CopyMessage::try_from(response) {
            Ok(CopyMessage::Begin(begin)) => prop_assert!(begin.page_count > 0 && begin.page_size >= 512),
            Ok(CopyMessage::Pages(pages)) => prop_assert!(pages.first_page > 0 && pages.size as usize <= MAX_CHUNK),
            Ok(CopyMessage::Hashes { first_page, hashes }) => {
                prop_assert!(first_page.checked_add(hashes.len() as u32).is_some() && !hashes.is_empty());
            }
            Err(_) => {}
        }
    }
}

#[test]
fn a_copy_is_checked_in_every_field() {
    let refused = |body| {
        let response = pb::ReadCopyResponse { body };
        CopyMessage::try_from(response)
            .expect_err("invalid")
            .field()
            .unwrap_or_default()
    };
    use pb::read_copy_response::Body;
    let begin = || pb::CopyBegin {
        position: "89abcdef01234567/0000000000000003:0000000000000020".into(),
        database_checksum: 1,
        page_count: 1,
        page_size: 512,
    };
    assert_eq!(refused(None), "");
    assert_eq!(
        refused(Some(Body::Begin(pb::CopyBegin {
            position: "x".into(),
            ..begin()
        }))),
        "begin.position"
    );
    assert_eq!(
        refused(Some(Body::Begin(pb::CopyBegin {
            page_count: 0,
            ..begin()
        }))),
        "begin.page_count"
    );
    assert_eq!(
        refused(Some(Body::Begin(pb::CopyBegin {
            page_size: 513,
            ..begin()
        }))),
        "begin.page_size"
    );
    let hashes = |first_page, count| {
        Body::Hashes(pb::PageHashes {
            first_page,
            hashes: vec![0; count],
        })
    };
    assert_eq!(refused(Some(hashes(0, 1))), "hashes.first_page");
    assert_eq!(refused(Some(hashes(u32::MAX, 1))), "hashes.first_page");
    assert_eq!(refused(Some(hashes(1, 0))), "hashes.hashes");
    assert_eq!(refused(Some(hashes(1, MAX_HASHES + 1))), "hashes.hashes");
}
