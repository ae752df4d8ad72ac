// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The RAM disk on rust-vmm's vhost-user-backend, with the loop of that crate. It locks the ring
//! once for all available requests, adds the used elements together and notifies once. See
//! ../compare.py, which builds it.
//!
//!     ram_rust_vmm SOCKET

use std::io;
use std::sync::{Arc, RwLock};

use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost_user_backend::{VhostUserBackendMut, VhostUserDaemon, VringRwLock, VringState, VringT};
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP,
    VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT,
};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use virtio_queue::Descriptor;
use virtio_queue::{DescriptorChain, QueueOwnedT, QueueT};
use vm_memory::{
    ByteValued, Bytes, GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap, Le32, Le64,
};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::eventfd::EventFd;

const DISK_BYTES: usize = 64 << 20;
const SECTOR: u64 = 512;
const QUEUE_SIZE: usize = 1024;

type Memory = GuestMemoryAtomic<GuestMemoryMmap>;

#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Header {
    kind: Le32,
    reserved: Le32,
    sector: Le64,
}

// SAFETY: plain numbers without padding.
unsafe impl ByteValued for Header {}

struct RamDisk {
    disk: &'static mut [u8],
    mem: Memory,
    event_idx: bool,
    done: Vec<(u16, u32)>,
}

/// Filled with a nonzero byte, so that every page is populated and distinct.
fn make_disk() -> &'static mut [u8] {
    // SAFETY: new memory without any other reference, which is never freed.
    let disk = unsafe {
        let at = libc::mmap(
            std::ptr::null_mut(),
            DISK_BYTES,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        if at == libc::MAP_FAILED {
            panic!("mmap: {}", io::Error::last_os_error());
        }
        libc::madvise(at, DISK_BYTES, libc::MADV_HUGEPAGE); // advice only
        std::slice::from_raw_parts_mut(at as *mut u8, DISK_BYTES)
    };
    disk.fill(0x5a);
    disk
}

/// Transfers one buffer of a request and advances `at` past it.
fn transfer(
    disk: &mut [u8],
    mem: &GuestMemoryMmap,
    kind: u32,
    at: &mut usize,
    desc: &Descriptor,
) -> u32 {
    let end = at.saturating_add(desc.len() as usize);
    let Some(part) = disk.get_mut(*at..end) else {
        return VIRTIO_BLK_S_IOERR;
    };
    let result = match (kind, desc.is_write_only()) {
        (VIRTIO_BLK_T_IN, true) => mem.write_slice(part, desc.addr()),
        (VIRTIO_BLK_T_OUT, false) => mem.read_slice(part, desc.addr()),
        _ => return VIRTIO_BLK_S_UNSUPP,
    };
    *at = end;
    match result {
        Ok(()) => VIRTIO_BLK_S_OK,
        Err(_) => VIRTIO_BLK_S_IOERR,
    }
}

/// Serves one request: header, data, and the status last. Returns the number of bytes written, None
/// if the request is malformed.
fn answer(
    disk: &mut [u8],
    mem: &GuestMemoryMmap,
    mut chain: DescriptorChain<&GuestMemoryMmap>,
) -> Option<u32> {
    let header: Header = mem.read_obj(chain.next()?.addr()).ok()?;
    let kind = header.kind.to_native();
    let mut at = header.sector.to_native().saturating_mul(SECTOR) as usize;
    let mut last = chain.next()?;
    let mut written = 1;
    let mut status = match kind {
        VIRTIO_BLK_T_IN | VIRTIO_BLK_T_OUT | VIRTIO_BLK_T_FLUSH => VIRTIO_BLK_S_OK,
        _ => VIRTIO_BLK_S_UNSUPP,
    };

    for next in chain {
        if status == VIRTIO_BLK_S_OK {
            status = transfer(disk, mem, kind, &mut at, &last);
        }
        if last.is_write_only() {
            written += last.len();
        }
        last = next;
    }
    if !last.is_write_only() {
        return None;
    }
    mem.write_obj(status as u8, last.addr()).ok()?;
    Some(written)
}

impl RamDisk {
    /// Serves all available requests. Returns whether there were any.
    fn serve(&mut self, vring: &mut VringState) -> io::Result<bool> {
        let mem = self.mem.memory();
        let mem: &GuestMemoryMmap = &mem;
        let queue = vring.get_queue_mut();

        self.done.clear();
        for chain in queue.iter(mem).map_err(io::Error::other)? {
            let head = chain.head_index();
            let written = answer(self.disk, mem, chain).unwrap_or(0);
            self.done.push((head, written));
        }
        if self.done.is_empty() {
            return Ok(false);
        }
        for &(head, written) in &self.done {
            queue
                .add_used(mem, head, written)
                .map_err(io::Error::other)?;
        }
        if queue.needs_notification(mem).map_err(io::Error::other)? {
            vring.signal_used_queue()?;
        }
        Ok(true)
    }
}

impl VhostUserBackendMut for RamDisk {
    type Bitmap = ();
    type Vring = VringRwLock;

    fn num_queues(&self) -> usize {
        1
    }

    fn max_queue_size(&self) -> usize {
        QUEUE_SIZE
    }

    fn features(&self) -> u64 {
        1 << VIRTIO_F_VERSION_1
            | 1 << VIRTIO_RING_F_INDIRECT_DESC
            | 1 << VIRTIO_RING_F_EVENT_IDX
            | 1 << VIRTIO_BLK_F_FLUSH
            | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits()
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        VhostUserProtocolFeatures::CONFIG | VhostUserProtocolFeatures::REPLY_ACK
    }

    fn get_config(&self, offset: u32, size: u32) -> Vec<u8> {
        let mut config = vec![0; 64.max(offset as usize + size as usize)];

        config[..8].copy_from_slice(&(DISK_BYTES as u64 / SECTOR).to_le_bytes());
        config[offset as usize..][..size as usize].to_vec()
    }

    fn set_event_idx(&mut self, enabled: bool) {
        self.event_idx = enabled;
    }

    fn update_memory(&mut self, mem: Memory) -> io::Result<()> {
        self.mem = mem;
        Ok(())
    }

    fn exit_event(&self, _thread_index: usize) -> Option<EventFd> {
        EventFd::new(libc::EFD_NONBLOCK).ok() // a new one for each session
    }

    fn handle_event(
        &mut self,
        device_event: u16,
        _evset: EventSet,
        vrings: &[VringRwLock],
        _thread_id: usize,
    ) -> io::Result<()> {
        let mut vring = vrings[device_event as usize].get_mut();

        if !self.event_idx {
            return self.serve(&mut vring).map(|_| ());
        }
        loop {
            vring.disable_notification().map_err(io::Error::other)?;
            while self.serve(&mut vring)? {}
            if !vring.enable_notification().map_err(io::Error::other)? {
                return Ok(());
            }
        }
    }
}

fn main() {
    let Some(socket) = std::env::args().nth(1) else {
        eprintln!("usage: ram_rust_vmm SOCKET");
        std::process::exit(64);
    };
    let mem = Memory::new(GuestMemoryMmap::new());
    let disk = Arc::new(RwLock::new(RamDisk {
        disk: make_disk(),
        mem: mem.clone(),
        event_idx: false,
        done: Vec::with_capacity(QUEUE_SIZE),
    }));

    loop {
        let mut daemon = VhostUserDaemon::new("ram_rust_vmm".into(), disk.clone(), mem.clone())
            .expect("a daemon");

        if let Err(e) = daemon.serve(&socket) {
            eprintln!("ram_rust_vmm: {e}");
        }
    }
}
