/* SPDX-License-Identifier: Apache-2.0 */
/* struct_ops maps: attached with and without a link, and not attached. */
#include "zoo.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

EMBEDDED(tcpcc);

static __u32 id_of(int fd)
{
	struct bpf_prog_info info = {};
	__u32 len = sizeof(info);
	if (bpf_prog_get_info_by_fd(fd, &info, &len))
		die("program info: %m");
	return info.id;
}

/* Names of congestion controls must be unique in the kernel, so each loader uses different names. */
static void name_of(const char *map, char name[16])
{
	snprintf(name, 16, "%s.%d", map + 2, getpid());
}

static void give_names(struct bpf_object *o)
{
	struct bpf_map *m;
	bpf_object__for_each_map(m, o) {
		size_t size;
		char *value = bpf_map__type(m) == BPF_MAP_TYPE_STRUCT_OPS ? bpf_map__initial_value(m, &size) : NULL;
		/* tcpcc.bpf.c's struct: three pointers, then the name. */
		if (value)
			name_of(bpf_map__name(m), value + 3 * sizeof(void *));
	}
}

/* `state` is enum bpf_struct_ops_state: 0 INIT, 1 INUSE, 3 READY (kernel/bpf/bpf_struct_ops.c). */
static void tell(struct bpf_object *o, const char *map, int state)
{
	int fd = object_map(o, map);
	char tcp_name[16];
	name_of(map, tcp_name);
	if (fd < 0)
		return;
	map_open(fd, "struct-ops", NULL);
	map_field("\"expect\":{\"state\":%d,\"data\":{\"name\":\"%s\",\"ssthresh\":%u,\"cong_avoid\":%u,\"undo_cwnd\":%u}}", state,
		  tcp_name, id_of(object_prog(o, "z_ssthresh")), id_of(object_prog(o, "z_cong_avoid")),
		  id_of(object_prog(o, "z_undo_cwnd")));
	map_close();
}

static int registered = -1;
static int loader;

/* A registration without a link stays after all fds are closed. Only deleting the element ends it. */
static void unregister(void)
{
	if (getpid() == loader)
		bpf_map_delete_elem(registered, &(__u32){ 0 });
}

static bool attach(struct bpf_object *o, const char *name)
{
	int fd = object_map(o, name);
	if (fd < 0)
		return false;
	if (!bpf_map__attach_struct_ops(bpf_object__find_map_by_name(o, name))) {
		answer_skip("link", name, strerror(errno));
		return false;
	}
	registered = fd;
	loader = getpid();
	atexit(unregister);
	return true;
}

/* Adds the kernel's link. For a map without BPF_F_LINK, the kernel has no link, and the fd of libbpf's link is the map's. */
static void tell_link(struct bpf_object *o)
{
	struct bpf_map *m = bpf_object__find_map_by_name(o, "z_cc_link");
	struct bpf_link *link = object_map(o, "z_cc_link") < 0 ? NULL : bpf_map__attach_struct_ops(m);
	char extra[64];
	struct bpf_map_info info = {};
	__u32 len = sizeof(info);
	if (!link) {
		answer_skip("link", "z_cc_link", strerror(errno));
		return;
	}
	if (bpf_map_get_info_by_fd(bpf_map__fd(m), &info, &len))
		die("z_cc_link: %m");
	snprintf(extra, sizeof(extra), "\"map_id\":%u", info.id);
	answer_link(bpf_link__fd(link), extra);
	tell(o, "z_cc_link", 3);
}

void show_struct_ops(void)
{
	static const char *const progs[] = { "z_ssthresh", "z_cong_avoid", "z_undo_cwnd" };
	struct bpf_object *o = object_load(&tcpcc, give_names);
	if (!o || object_prog(o, progs[0]) < 0)
		return;
	tell(o, "z_cc", attach(o, "z_cc") ? 1 : 0);
	tell_link(o);
	tell(o, "z_cc_idle", 0);
	for (int i = 0; i < 3; i++)
		if (object_prog(o, progs[i]) >= 0)
			answer_prog(object_prog(o, progs[i]), 0, true);
	answer_sections(o);
}
