/* SPDX-License-Identifier: Apache-2.0 */
/* Programs attached to the zoo's cgroup, each with a link; cgroup arrays; the storage of attachments. */
#include "zoo.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

EMBEDDED(cgroup);

static void attach_all(struct bpf_object *o)
{
	struct bpf_program *p;
	bpf_object__for_each_program(p, o) {
		if (bpf_program__fd(p) <= 0)
			continue;
		struct bpf_link *link = bpf_program__attach_cgroup(p, groups[0].fd);
		if (!link) {
			answer_skip("link", bpf_program__name(p), strerror(errno));
		} else {
			char extra[128];
			snprintf(extra, sizeof(extra), "\"cgroup_id\":\"%llu\",\"attach_type\":%d", groups[0].id,
				 bpf_program__expected_attach_type(p));
			answer_link(bpf_link__fd(link), extra);
		}
		answer_prog(bpf_program__fd(p), 0, false);
	}
}

/* Fills the storage, which the attachment of the program has created. */
static void with_attachment(struct bpf_object *o)
{
	int fd = object_map(o, "z_cg_storage");
	if (fd >= 0) {
		struct bpf_cgroup_storage_key key;
		unsigned long long value = 0x0123456789abcdefULL;
		memset(&key, 0, sizeof(key));
		key.cgroup_inode_id = groups[0].id;
		key.attach_type = BPF_CGROUP_INET_EGRESS;
		map_open(fd, "entries", NULL);
		put(fd, &key, sizeof(key), &value, sizeof(value), NULL);
		map_close();
	}
	fd = object_map(o, "z_cg_percpu");
	if (fd >= 0) {
		void *values = percpu_alloc(4);
		percpu_pattern(values, 4, 0x30);
		map_open(fd, "percpu", NULL);
		put_percpu(fd, &groups[0].id, 8, values, 4);
		map_close();
		free(values);
	}
}

static void array(struct bpf_object *o)
{
	int fd = object_map(o, "z_cgroup_array");
	if (fd < 0)
		return;
	map_open(fd, "owned", NULL);
	for (__u32 i = 0; i < (__u32)group_count; i++) {
		char owner[1024];
		__u32 key = 3 - i;
		if (bpf_map_update_elem(fd, &key, &groups[i].fd, BPF_ANY))
			die("z_cgroup_array: %m");
		snprintf(owner, sizeof(owner), "\"key\":\"%s\",\"owner\":{\"kind\":\"cgroup\",\"id\":\"%llu\",\"path\":\"%s\"}",
			 hex_of(&key, 4), groups[i].id, hex_of(groups[i].path, strlen(groups[i].path)));
		map_record("", 0, owner);
	}
	map_close();
}

void show_cgroups(void)
{
	struct bpf_object *o = group_count ? object_load(&cgroup, NULL) : NULL;
	if (!o)
		return;
	attach_all(o);
	with_attachment(o);
	array(o);
}
