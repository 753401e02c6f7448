// SPDX-License-Identifier: AGPL-3.0-only
// Refuses to compile where a packet or a table would lie otherwise than in the daemons that were
// measured. At run time layout.c compares the sizes that the core writes into each packet.

#include "abi.h"
#include <stddef.h>

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define HOLDS(condition) typedef char JOIN(holds_, __LINE__)[(condition) ? 1 : -1] __attribute__((unused))
#define AT(type, field, offset) HOLDS(offsetof(struct type, field) == (offset))
#define SIZE(type, size) HOLDS(sizeof(struct type) == (size))

#if !defined(__x86_64__)
#error "the layouts were measured on x86-64 only"
#endif

HOLDS(sizeof(fd_rc) == 4);
HOLDS(sizeof(bool) == 1);

AT(fd_plugin_info, magic, 8);
AT(fd_plugin_info, license, 16);
AT(fd_plugin_info, description, 48);
SIZE(fd_plugin_info, 56);

AT(fd_core, get_value, 16);
AT(fd_core, job_message, 32);
AT(fd_core, debug_message, 40);
AT(fd_core, release, 56);
SIZE(fd_core, 136);

AT(fd_functions_common, new_plugin, 8);
AT(fd_functions_common, handle_event, 40);
AT(fd_functions_common, plugin_io, 80);
AT(fd_functions_common, handle_xacl, 112);
AT(fd_functions_14, check_stream, 120);
SIZE(fd_functions_14, 128);
AT(fd_functions_21, check_stream, 128);
AT(fd_functions_21, query_parameter, 136);
SIZE(fd_functions_21, 144);
SIZE(fd_functions_22, 152);
AT(fd_functions_23, end_verify_file, 160);
SIZE(fd_functions_23, 168);

AT(io_packet, func, 4);
AT(io_packet, count, 8);
AT(io_packet, flags, 12);
AT(io_packet, mode, 16);
AT(io_packet, buf, 24);
AT(io_packet, fname, 32);
AT(io_packet, status, 40);
AT(io_packet, io_errno, 44);
AT(io_packet, lerror, 48);
AT(io_packet, whence, 52);
AT(io_packet, offset, 56);
AT(io_packet, win32, 64);
AT(io_packet, pkt_end, 68);
SIZE(io_packet, 72);

AT(xacl_packet, func, 4);
AT(xacl_packet, count, 8);
AT(xacl_packet, content, 16);
AT(xacl_packet, pkt_end, 24);
SIZE(xacl_packet, 32);

AT(restore_object_packet, object_name, 8);
AT(restore_object_packet, plugin_name, 24);
AT(restore_object_packet, object_type, 32);
AT(restore_object_packet, object_len, 36);
AT(restore_object_packet, object_full_len, 40);
AT(restore_object_packet, object_index, 44);
AT(restore_object_packet, object_compression, 48);
AT(restore_object_packet, stream, 52);
AT(restore_object_packet, job_id, 56);
AT(restore_object_packet, pkt_end, 60);
SIZE(restore_object_packet, 64);

AT(query_packet, parameter, 8);
AT(query_packet, command, 16);
AT(query_packet, api_options, 24);
AT(query_packet, result, 32);
AT(query_packet, pkt_end, 40);

AT(stream_packet, stream, 4);
AT(stream_packet, pkt_end, 8);

// what lies behind the stat moves with its size: 144 bytes on Linux, 88 in the core's own of Windows
#ifdef _WIN32
#define STAT_SIZE 88
AT(fd_stat, st_ino, 8);
AT(fd_stat, st_mode, 16);
AT(fd_stat, st_nlink, 18);
AT(fd_stat, st_uid, 20);
AT(fd_stat, st_rdev, 28);
AT(fd_stat, st_size, 32);
AT(fd_stat, st_atime_s, 40);
AT(fd_stat, st_mtime_s, 48);
AT(fd_stat, st_ctime_s, 56);
AT(fd_stat, st_blksize, 64);
AT(fd_stat, st_blocks, 72);
AT(fd_stat, st_fattrs, 80);
#else
#define STAT_SIZE 144
#endif
#define BEHIND_STAT(offset) ((offset)-144 + STAT_SIZE)
SIZE(fd_stat, STAT_SIZE);

AT(save_packet_14, fname, 8);
AT(save_packet_14, link, 16);
AT(save_packet_14, statp, 24);
AT(save_packet_14, type, BEHIND_STAT(168));
AT(save_packet_14, flags, BEHIND_STAT(176));
AT(save_packet_14, no_read, BEHIND_STAT(184));
AT(save_packet_14, cmd, BEHIND_STAT(192));
AT(save_packet_14, delta_seq, BEHIND_STAT(200));
AT(save_packet_14, object_name, BEHIND_STAT(208));
AT(save_packet_14, object, BEHIND_STAT(216));
AT(save_packet_14, object_len, BEHIND_STAT(224));
AT(save_packet_14, index, BEHIND_STAT(228));
AT(save_packet_14, link_index, BEHIND_STAT(232));
AT(save_packet_14, pkt_end, BEHIND_STAT(236));
SIZE(save_packet_14, BEHIND_STAT(240));

AT(save_packet_21, fname, 8);
AT(save_packet_21, snap_fname, 16);
AT(save_packet_21, plugin_mode, 24);
AT(save_packet_21, link, 32);
AT(save_packet_21, statp, 40);
AT(save_packet_21, type, BEHIND_STAT(184));
AT(save_packet_21, flags, BEHIND_STAT(192));
AT(save_packet_21, no_read, BEHIND_STAT(200));
AT(save_packet_21, do_dedup, BEHIND_STAT(203));
AT(save_packet_21, cmd, BEHIND_STAT(208));
AT(save_packet_21, delta_seq, BEHIND_STAT(216));
AT(save_packet_21, object_name, BEHIND_STAT(224));
AT(save_packet_21, object, BEHIND_STAT(232));
AT(save_packet_21, object_len, BEHIND_STAT(240));
AT(save_packet_21, index, BEHIND_STAT(244));
AT(save_packet_21, link_index, BEHIND_STAT(248));
AT(save_packet_21, pkt_end, BEHIND_STAT(252));
SIZE(save_packet_21, BEHIND_STAT(256));

AT(save_packet_23, fname, 8);
AT(save_packet_23, link, 32);
AT(save_packet_23, statp, 40);
AT(save_packet_23, type, BEHIND_STAT(184));
AT(save_packet_23, flags, BEHIND_STAT(192));
AT(save_packet_23, no_read, BEHIND_STAT(200));
AT(save_packet_23, do_dedup, BEHIND_STAT(203));
AT(save_packet_23, stat_update, BEHIND_STAT(204));
AT(save_packet_23, cmd, BEHIND_STAT(208));
AT(save_packet_23, restore_object, BEHIND_STAT(216));
AT(save_packet_23, plugin_object, BEHIND_STAT(248));
AT(save_packet_23, metadata, BEHIND_STAT(320));
AT(save_packet_23, delta_seq, BEHIND_STAT(328));
AT(save_packet_23, link_index, BEHIND_STAT(332));
AT(save_packet_23, pkt_end, BEHIND_STAT(336));
SIZE(save_packet_23, BEHIND_STAT(344));
SIZE(saved_restore_object, 32);
SIZE(saved_plugin_object, 72);

AT(restore_packet_14, stream, 4);
AT(restore_packet_14, type, 12);
AT(restore_packet_14, link_index, 20);
AT(restore_packet_14, uid, 24);
AT(restore_packet_14, statp, 32);
AT(restore_packet_14, attributes_ex, BEHIND_STAT(176));
AT(restore_packet_14, fname, BEHIND_STAT(184));
AT(restore_packet_14, link, BEHIND_STAT(192));
AT(restore_packet_14, where, BEHIND_STAT(200));
AT(restore_packet_14, regex_where, BEHIND_STAT(208));
AT(restore_packet_14, replace, BEHIND_STAT(216));
AT(restore_packet_14, create_status, BEHIND_STAT(220));
AT(restore_packet_14, delta_seq, BEHIND_STAT(224));
AT(restore_packet_14, pkt_end, BEHIND_STAT(228));
SIZE(restore_packet_14, BEHIND_STAT(232));

AT(restore_packet_21, plugin_mode, 4);
AT(restore_packet_21, stream, 8);
AT(restore_packet_21, type, 16);
AT(restore_packet_21, link_index, 24);
AT(restore_packet_21, uid, 28);
AT(restore_packet_21, statp, 32);
AT(restore_packet_21, fname, BEHIND_STAT(184));
AT(restore_packet_21, create_status, BEHIND_STAT(220));
AT(restore_packet_21, pkt_end, BEHIND_STAT(228));
SIZE(restore_packet_21, BEHIND_STAT(232));
