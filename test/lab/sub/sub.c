/* SPDX-License-Identifier: Apache-2.0 */
/*
* lab-sub OUTER INNER: attaches a scheduler, its sub-scheduler to the cgroup OUTER, and a sub-scheduler of that to the cgroup
 * INNER, a child of OUTER. Both cgroups are empty. Prints their ids, then waits for its end.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <bpf/libbpf.h>
#include "sub.skel.h"

/* On 64-bit machines the id of a cgroup is its inode number. */
static unsigned long long make_cgroup(const char *path)
{
	struct stat found;
	if ((mkdir(path, 0755) && errno != EEXIST) || stat(path, &found)) {
		fprintf(stderr, "%s: %m\n", path);
		exit(1);
	}
	return found.st_ino;
}

static void attach(const struct bpf_map *map)
{
	if (!bpf_map__attach_struct_ops(map)) {
		fprintf(stderr, "attach %s: %m\n", bpf_map__name(map));
		exit(1);
	}
}

int main(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	struct sub *skel = sub__open();
	if (!skel) {
		perror("open");
		return 1;
	}
	unsigned long long outer = make_cgroup(argv[1]), inner = make_cgroup(argv[2]);
	skel->struct_ops.middle_ops->sub_cgroup_id = outer;
	skel->struct_ops.leaf_ops->sub_cgroup_id = inner;
	if (sub__load(skel)) {
		perror("load");
		return 1;
	}
	attach(skel->maps.top_ops);
	attach(skel->maps.middle_ops);
	attach(skel->maps.leaf_ops);
	printf("[%llu, %llu]\n", outer, inner);
	fflush(stdout);
	for (;;)
		pause();
}
