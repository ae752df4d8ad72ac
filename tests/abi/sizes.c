/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The layout of every public struct, as programs are compiled against it (LP64). A line here
 * changes only together with the soname. Structs that begin with `size` may grow at their end,
 * behind the old padding: then SIZE changes alone.
 */
#include <godwit.h>
#include <godwit/blk.h>
#include <godwit/frontend/channel.h>
#include <godwit/frontend/fault.h>
#include <godwit/frontend/frontend.h>
#include <godwit/frontend/iotlb.h>
#include <godwit/frontend/log.h>
#include <stddef.h>

#ifdef __LP64__
#define SIZE(type, value) _Static_assert(sizeof(struct type) == (value), "size of " #type)
#define FIELD(type, field, value) \
    _Static_assert(offsetof(struct type, field) == (value), "place of " #type "." #field)

SIZE(gw_device_ops, 248);
FIELD(gw_device_ops, size, 0);
FIELD(gw_device_ops, features, 8);
FIELD(gw_device_ops, features_acked, 16);
FIELD(gw_device_ops, get_config, 24);
FIELD(gw_device_ops, set_config, 32);
FIELD(gw_device_ops, queue_start, 40);
FIELD(gw_device_ops, queue_ready, 48);
FIELD(gw_device_ops, queue_stop, 56);
FIELD(gw_device_ops, reset, 64);
FIELD(gw_device_ops, worker_start, 72);
FIELD(gw_device_ops, worker_stop, 80);
FIELD(gw_device_ops, queue_moved, 88);
FIELD(gw_device_ops, session_start, 96);
FIELD(gw_device_ops, session_end, 104);
FIELD(gw_device_ops, protocol_features, 112);
FIELD(gw_device_ops, check_features, 120);
FIELD(gw_device_ops, check_protocol_features, 128);
FIELD(gw_device_ops, region_added, 136);
FIELD(gw_device_ops, region_gone, 144);
FIELD(gw_device_ops, get_shmem, 152);
FIELD(gw_device_ops, get_shared_object, 160);
FIELD(gw_device_ops, host_notifiers, 168);
FIELD(gw_device_ops, state_begin, 176);
FIELD(gw_device_ops, state_save, 184);
FIELD(gw_device_ops, state_load, 192);
FIELD(gw_device_ops, state_end, 200);
FIELD(gw_device_ops, stateless, 208);
FIELD(gw_device_ops, set_status, 216);
FIELD(gw_device_ops, needs_reset, 224);
FIELD(gw_device_ops, send_rarp, 232);
FIELD(gw_device_ops, set_mtu, 240);

SIZE(gw_memory_region, 64);
FIELD(gw_memory_region, guest_addr, 0);
FIELD(gw_memory_region, user_addr, 8);
FIELD(gw_memory_region, size, 16);
FIELD(gw_memory_region, addr, 24);
FIELD(gw_memory_region, page_size, 32);
FIELD(gw_memory_region, offset, 40);
FIELD(gw_memory_region, fd, 48);
FIELD(gw_memory_region, user, 56);

SIZE(gw_memory, 40);
FIELD(gw_memory, queue, 0);
FIELD(gw_memory, map, 8);
FIELD(gw_memory, generation, 16);
FIELD(gw_memory, last_region, 20);
FIELD(gw_memory, reserved, 24);

SIZE(gw_channel_request, 144);
FIELD(gw_channel_request, done, 0);
FIELD(gw_channel_request, timeout_ms, 8);
FIELD(gw_channel_request, fd, 12);
FIELD(gw_channel_request, reserved, 16);

SIZE(gw_daemon_config, 160);
FIELD(gw_daemon_config, size, 0);
FIELD(gw_daemon_config, name, 8);
FIELD(gw_daemon_config, num_queues, 16);
FIELD(gw_daemon_config, queue_size_max, 20);
FIELD(gw_daemon_config, num_workers, 24);
FIELD(gw_daemon_config, queue_workers, 32);
FIELD(gw_daemon_config, sync, 40);
FIELD(gw_daemon_config, loop, 44);
FIELD(gw_daemon_config, poll_us, 48);
FIELD(gw_daemon_config, request_size, 56);
FIELD(gw_daemon_config, drain_timeout_ms, 64);
FIELD(gw_daemon_config, log, 72);
FIELD(gw_daemon_config, log_arg, 80);
FIELD(gw_daemon_config, log_level, 88);
FIELD(gw_daemon_config, reconnect_max_ms, 92);
FIELD(gw_daemon_config, handle_sigbus, 96);
FIELD(gw_daemon_config, no_postcopy, 97);
FIELD(gw_daemon_config, xen_persistent_grants, 100);
FIELD(gw_daemon_config, request_bytes_max, 104);
FIELD(gw_daemon_config, workers, 112);
FIELD(gw_daemon_config, control, 120);
FIELD(gw_daemon_config, ended, 128);
FIELD(gw_daemon_config, ended_arg, 136);
FIELD(gw_daemon_config, balance_ms, 144);
FIELD(gw_daemon_config, state_bytes_max, 152);

SIZE(gw_state_section, 32);
FIELD(gw_state_section, id, 0);
FIELD(gw_state_section, flags, 4);
FIELD(gw_state_section, version, 8);
FIELD(gw_state_section, data, 16);
FIELD(gw_state_section, len, 24);

SIZE(gw_workers_config, 72);
FIELD(gw_workers_config, size, 0);
FIELD(gw_workers_config, num_workers, 8);
FIELD(gw_workers_config, loop, 12);
FIELD(gw_workers_config, poll_us, 16);
FIELD(gw_workers_config, name, 24);
FIELD(gw_workers_config, cpus, 32);
FIELD(gw_workers_config, external, 40);
FIELD(gw_workers_config, log, 48);
FIELD(gw_workers_config, log_arg, 56);
FIELD(gw_workers_config, log_level, 64);

SIZE(gw_request, 48);
FIELD(gw_request, queue, 0);
FIELD(gw_request, readable, 8);
FIELD(gw_request, writable, 16);
FIELD(gw_request, n_readable, 24);
FIELD(gw_request, n_writable, 28);
FIELD(gw_request, readable_len, 32);
FIELD(gw_request, writable_len, 40);

SIZE(gw_queue_stats, 80);
FIELD(gw_queue_stats, requests, 0);
FIELD(gw_queue_stats, completed, 8);
FIELD(gw_queue_stats, bytes_readable, 16);
FIELD(gw_queue_stats, bytes_written, 24);
FIELD(gw_queue_stats, kicks, 32);
FIELD(gw_queue_stats, calls, 40);
FIELD(gw_queue_stats, calls_suppressed, 48);
FIELD(gw_queue_stats, errors, 56);
FIELD(gw_queue_stats, in_flight, 64);
FIELD(gw_queue_stats, oldest_ns, 72);

SIZE(gw_io, 88);
FIELD(gw_io, done, 0);
FIELD(gw_io, reserved, 8);

SIZE(gw_post, 16);
FIELD(gw_post, run, 0);
FIELD(gw_post, reserved, 8);

/* The other end of the wire. */
SIZE(gw_guest_region, 64);
FIELD(gw_guest_region, kind, 0);
FIELD(gw_guest_region, gpa, 8);
FIELD(gw_guest_region, length, 16);
FIELD(gw_guest_region, offset, 24);
FIELD(gw_guest_region, fd, 32);
FIELD(gw_guest_region, no_alloc, 36);
FIELD(gw_guest_region, uva, 40);
FIELD(gw_guest_region, host, 48);
FIELD(gw_guest_region, xen, 56);
FIELD(gw_guest_region, domid, 60);

SIZE(gw_frontend_iotlb, 32);
FIELD(gw_frontend_iotlb, iova, 0);
FIELD(gw_frontend_iotlb, length, 8);
FIELD(gw_frontend_iotlb, uva, 16);
FIELD(gw_frontend_iotlb, access, 24);

SIZE(gw_frontend_channel_ops, 64);
FIELD(gw_frontend_channel_ops, size, 0);
FIELD(gw_frontend_channel_ops, config_changed, 8);
FIELD(gw_frontend_channel_ops, shmem_map, 16);
FIELD(gw_frontend_channel_ops, shmem_unmap, 24);
FIELD(gw_frontend_channel_ops, object_add, 32);
FIELD(gw_frontend_channel_ops, object_remove, 40);
FIELD(gw_frontend_channel_ops, object_lookup, 48);
FIELD(gw_frontend_channel_ops, host_notifier, 56);

SIZE(gw_frontend_shmem_range, 32);
FIELD(gw_frontend_shmem_range, shm_offset, 0);
FIELD(gw_frontend_shmem_range, fd_offset, 8);
FIELD(gw_frontend_shmem_range, len, 16);
FIELD(gw_frontend_shmem_range, shmid, 24);
FIELD(gw_frontend_shmem_range, writable, 25);

SIZE(gw_frontend_config, 24);
FIELD(gw_frontend_config, size, 0);
FIELD(gw_frontend_config, timeout_ms, 8);
FIELD(gw_frontend_config, connect_timeout_ms, 12);
FIELD(gw_frontend_config, ack, 16);
FIELD(gw_frontend_config, no_gates, 20);

SIZE(gw_frontend_vring_addr, 40);
FIELD(gw_frontend_vring_addr, desc, 0);
FIELD(gw_frontend_vring_addr, avail, 8);
FIELD(gw_frontend_vring_addr, used, 16);
FIELD(gw_frontend_vring_addr, log, 24);
FIELD(gw_frontend_vring_addr, flags, 32);

SIZE(gw_frontend_inflight, 32);
FIELD(gw_frontend_inflight, fd, 0);
FIELD(gw_frontend_inflight, mmap_size, 8);
FIELD(gw_frontend_inflight, mmap_offset, 16);
FIELD(gw_frontend_inflight, num_queues, 24);
FIELD(gw_frontend_inflight, queue_size, 26);

SIZE(gw_frontend_message, 4156);
FIELD(gw_frontend_message, request, 0);
FIELD(gw_frontend_message, flags, 4);
FIELD(gw_frontend_message, size, 8);
FIELD(gw_frontend_message, n_fds, 12);
FIELD(gw_frontend_message, fds, 16);
FIELD(gw_frontend_message, payload, 48);

SIZE(gw_frontend_options, 72);
FIELD(gw_frontend_options, size, 0);
FIELD(gw_frontend_options, features, 8);
FIELD(gw_frontend_options, protocol_features, 16);
FIELD(gw_frontend_options, mem, 24);
FIELD(gw_frontend_options, drivers, 32);
FIELD(gw_frontend_options, n_drivers, 40);
FIELD(gw_frontend_options, mem_form, 44);
FIELD(gw_frontend_options, no_enable, 48);
FIELD(gw_frontend_options, log, 56);
FIELD(gw_frontend_options, inflight, 64);

SIZE(gw_driver_config, 64);
FIELD(gw_driver_config, size, 0);
FIELD(gw_driver_config, mem, 8);
FIELD(gw_driver_config, index, 16);
FIELD(gw_driver_config, queue_size, 20);
FIELD(gw_driver_config, indirect_max, 24);
FIELD(gw_driver_config, place, 28);
FIELD(gw_driver_config, desc, 32);
FIELD(gw_driver_config, avail, 40);
FIELD(gw_driver_config, used, 48);
FIELD(gw_driver_config, packed, 56);

SIZE(gw_driver_buf, 16);
FIELD(gw_driver_buf, addr, 0);
FIELD(gw_driver_buf, len, 8);

SIZE(gw_driver_used, 16);
FIELD(gw_driver_used, cookie, 0);
FIELD(gw_driver_used, len, 8);
FIELD(gw_driver_used, id, 12);

SIZE(gw_driver_packed_desc, 16);
FIELD(gw_driver_packed_desc, addr, 0);
FIELD(gw_driver_packed_desc, len, 8);
FIELD(gw_driver_packed_desc, id, 12);
FIELD(gw_driver_packed_desc, flags, 14);

SIZE(gw_guest_log_config, 40);
FIELD(gw_guest_log_config, size, 0);
FIELD(gw_guest_log_config, length, 8);
FIELD(gw_guest_log_config, offset, 16);
FIELD(gw_guest_log_config, no_seals, 24);
FIELD(gw_guest_log_config, base, 32);

SIZE(gw_fault_config, 48);
FIELD(gw_fault_config, size, 0);
FIELD(gw_fault_config, fill, 8);
FIELD(gw_fault_config, page, 16);
FIELD(gw_fault_config, report, 24);
FIELD(gw_fault_config, served, 32);
FIELD(gw_fault_config, arg, 40);

SIZE(gw_fault_report, 56);
FIELD(gw_fault_report, problem, 0);
FIELD(gw_fault_report, error, 4);
FIELD(gw_fault_report, gpa, 8);
FIELD(gw_fault_report, len, 16);
FIELD(gw_fault_report, region, 24);
FIELD(gw_fault_report, client, 32);
FIELD(gw_fault_report, address, 40);
FIELD(gw_fault_report, text, 48);

SIZE(gw_fault_latency, 48);
FIELD(gw_fault_latency, count, 0);
FIELD(gw_fault_latency, p50, 8);
FIELD(gw_fault_latency, p99, 24);
FIELD(gw_fault_latency, max, 40);

SIZE(gw_fault_stats, 160);
FIELD(gw_fault_stats, faults, 0);
FIELD(gw_fault_stats, copied, 16);
FIELD(gw_fault_stats, asked, 40);
FIELD(gw_fault_stats, wakes, 48);
FIELD(gw_fault_stats, bytes_requested, 56);
FIELD(gw_fault_stats, repeated, 72);
FIELD(gw_fault_stats, early, 80);
FIELD(gw_fault_stats, pages, 96);
FIELD(gw_fault_stats, latency, 112);

SIZE(gw_vring_region, 24);
FIELD(gw_vring_region, gpa, 0);
FIELD(gw_vring_region, size, 8);
FIELD(gw_vring_region, at, 16);

SIZE(gw_vring_config, 80);
FIELD(gw_vring_config, size, 0);
FIELD(gw_vring_config, queue_size_max, 8);
FIELD(gw_vring_config, request_size, 16);
FIELD(gw_vring_config, request_bytes_max, 24);
FIELD(gw_vring_config, ready, 32);
FIELD(gw_vring_config, notify, 40);
FIELD(gw_vring_config, arg, 48);
FIELD(gw_vring_config, log, 56);
FIELD(gw_vring_config, log_arg, 64);
FIELD(gw_vring_config, log_level, 72);

SIZE(gw_vring_state, 48);
FIELD(gw_vring_state, size, 0);
FIELD(gw_vring_state, features, 8);
FIELD(gw_vring_state, queue_size, 16);
FIELD(gw_vring_state, next_avail, 20);
FIELD(gw_vring_state, next_used, 22);
FIELD(gw_vring_state, desc, 24);
FIELD(gw_vring_state, driver, 32);
FIELD(gw_vring_state, device, 40);

SIZE(gw_blk_io, 96);
FIELD(gw_blk_io, done, 0);
FIELD(gw_blk_io, worker, 8);
FIELD(gw_blk_io, iov, 16);
FIELD(gw_blk_io, n_iov, 24);
FIELD(gw_blk_io, kind, 28);
FIELD(gw_blk_io, is_durable, 32);
FIELD(gw_blk_io, may_unmap, 33);
FIELD(gw_blk_io, is_cancelled, 34);
FIELD(gw_blk_io, offset, 40);
FIELD(gw_blk_io, length, 48);

SIZE(gw_blk_user, 48);
FIELD(gw_blk_user, done, 0);
FIELD(gw_blk_user, worker, 8);
FIELD(gw_blk_user, next, 16);

SIZE(gw_blk_store_ops, 64);
FIELD(gw_blk_store_ops, size, 0);
FIELD(gw_blk_store_ops, io_size, 8);
FIELD(gw_blk_store_ops, prefetch, 16);
FIELD(gw_blk_store_ops, submit, 24);
FIELD(gw_blk_store_ops, cancel, 32);
FIELD(gw_blk_store_ops, start, 40);
FIELD(gw_blk_store_ops, cancel_start, 48);
FIELD(gw_blk_store_ops, stop, 56);

SIZE(gw_blk_config, 88);
FIELD(gw_blk_config, size, 0);
FIELD(gw_blk_config, capacity, 8);
FIELD(gw_blk_config, block_size, 16);
FIELD(gw_blk_config, is_read_only, 20);
FIELD(gw_blk_config, can_discard, 21);
FIELD(gw_blk_config, no_write_zeroes, 22);
FIELD(gw_blk_config, num_queues, 24);
FIELD(gw_blk_config, queue_size_max, 28);
FIELD(gw_blk_config, serial, 32);
FIELD(gw_blk_config, physical_block, 40);
FIELD(gw_blk_config, alignment_offset, 44);
FIELD(gw_blk_config, io_min, 48);
FIELD(gw_blk_config, io_opt, 52);
FIELD(gw_blk_config, discard_align, 56);
FIELD(gw_blk_config, log, 64);
FIELD(gw_blk_config, log_arg, 72);
FIELD(gw_blk_config, log_level, 80);
FIELD(gw_blk_config, access_platform, 84);

SIZE(gw_blk_count, 24);
FIELD(gw_blk_count, submitted, 0);
FIELD(gw_blk_count, bytes, 8);
FIELD(gw_blk_count, failed, 16);

SIZE(gw_blk_stats, 136);
FIELD(gw_blk_stats, size, 0);
FIELD(gw_blk_stats, read, 8);
FIELD(gw_blk_stats, write, 32);
FIELD(gw_blk_stats, flush, 56);
FIELD(gw_blk_stats, discard, 80);
FIELD(gw_blk_stats, write_zeroes, 104);
FIELD(gw_blk_stats, refused, 128);

_Static_assert(sizeof(gw_gpa_t) == 8 && sizeof(gw_uva_t) == 8 && sizeof(gw_off_t) == 8 &&
                   sizeof(gw_bva_t) == 8,
               "size of the address types");
#endif

/* Values that are part of the interface as well. */
_Static_assert(GW_SYNC_NONE == 0 && GW_SYNC_MUTEX == 1 && GW_SYNC_RWLOCK == 2, "gw_queue_sync");
_Static_assert(GW_LOOP_AUTO == 0 && GW_LOOP_URING == 1 && GW_LOOP_EPOLL == 2, "gw_loop_kind");
_Static_assert(GW_LOG_ERROR == 0 && GW_LOG_WARNING == 1 && GW_LOG_INFO == 2 && GW_LOG_DEBUG == 3,
               "gw_log_level");
_Static_assert(GW_DRIVER_INDIRECT == 1 && GW_DRIVER_PLACE_AVAIL_EVENT == 6 &&
                   GW_DRIVER_PLACE_DEVICE_EVENT == 9,
               "gw_driver_flags, gw_driver_place");
_Static_assert(GW_FAULT_COPY == 0 && GW_FAULT_CONTINUE == 1 && GW_FAULT_HERE == 0 &&
                   GW_FAULT_LATER == 1 && GW_FAULT_PLACE == 3,
               "gw_fault_fill, gw_fault_answer, gw_fault_problem");
_Static_assert(GW_VRING_PACKED_BEGIN == 0x8000, "gw_vring_state");
_Static_assert(GW_BLK_READ == 0 && GW_BLK_WRITE == 1 && GW_BLK_FLUSH == 2 && GW_BLK_DISCARD == 3 &&
                   GW_BLK_WRITE_ZEROES == 4,
               "gw_blk_kind");
_Static_assert(GW_QUEUES_MAX == 256 && GW_QUEUE_SIZE_MAX == 32768 && GW_WORKERS_MAX == 256 &&
                   GW_CONFIG_SIZE_MAX == 4096 && GW_MEM_SLOTS_MAX == 509,
               "limits");
