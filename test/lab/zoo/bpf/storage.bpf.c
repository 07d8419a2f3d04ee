/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* Local storage of kernel objects. The loader fills it. These maps need BTF, so they are in an object. */
#include "zoo_bpf.h"
#include "../zoo_types.h"

#define STORAGE(name, kind, value_type)                                                                                \
	struct {                                                                                                       \
		__uint(type, kind);                                                                                    \
		__uint(map_flags, BPF_F_NO_PREALLOC);                                                                  \
		__type(key, int);                                                                                      \
		__type(value, value_type);                                                                             \
	} name SEC(".maps")

STORAGE(z_task, BPF_MAP_TYPE_TASK_STORAGE, struct zoo_owned);
STORAGE(z_task_second, BPF_MAP_TYPE_TASK_STORAGE, __u32);
STORAGE(z_task_empty, BPF_MAP_TYPE_TASK_STORAGE, __u64);
STORAGE(z_cgroup, BPF_MAP_TYPE_CGRP_STORAGE, struct zoo_owned);
STORAGE(z_inode, BPF_MAP_TYPE_INODE_STORAGE, struct zoo_owned);
STORAGE(z_socket, BPF_MAP_TYPE_SK_STORAGE, struct zoo_owned);
STORAGE(z_socket_odd, BPF_MAP_TYPE_SK_STORAGE, struct zoo_packed);
