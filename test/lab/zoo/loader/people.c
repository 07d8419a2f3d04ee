/* SPDX-License-Identifier: Apache-2.0 */
/* Creates the owners of task and cgroup storage: sleeping processes with known names, and cgroups. */
#include "zoo.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct resident residents[RESIDENTS];
struct group groups[GROUPS];
int group_count;
static int loader;

/* A plain name, a name of 15 characters, a name with an escape sequence and quotes, a name that is not UTF-8. */
static const char *const names[RESIDENTS] = { "zoo-keeper", "zoo-fifteen-chr", "z\x1b[31m\"\\\n", "z\xff\xfe(\xc3" };

const char *hex_of(const void *bytes, size_t size)
{
	static char text[2][1024];
	static int turn;
	char *out = text[turn ^= 1];
	for (size_t i = 0; i < size && i < 500; i++)
		snprintf(out + 2 * i, 3, "%02x", ((const unsigned char *)bytes)[i]);
	if (!size)
		out[0] = 0;
	return out;
}

/* Called by die() too, because cgroups stay otherwise. A cgroup becomes empty shortly after its task has ended. */
static void move_out(void)
{
	if (getpid() != loader)
		return;
	for (int i = 0; i < RESIDENTS; i++) {
		if (residents[i].pid > 0) {
			kill(residents[i].pid, SIGKILL);
			waitpid(residents[i].pid, NULL, 0);
		}
	}
	for (int i = group_count - 1; i >= 0; i--) {
		char path[512];
		snprintf(path, sizeof(path), "%s%s", zoo.cgroup_root, groups[i].path);
		for (int tries = 0; rmdir(path) && errno == EBUSY && tries < 100; tries++)
			usleep(10000);
	}
}

static void fork_resident(struct resident *r, const char *name)
{
	snprintf(r->comm, sizeof(r->comm), "%s", name);
	r->pid = fork();
	if (r->pid < 0)
		die("fork: %m");
	if (!r->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != loader)
			_exit(0);
		/* Closed, so that readers of the loader's output do not wait for its children. */
		for (int fd = 0; fd < 3; fd++)
			close(fd);
		prctl(PR_SET_NAME, r->comm);
		for (;;)
			pause();
	}
	r->pidfd = (int)syscall(SYS_pidfd_open, r->pid, 0);
	if (r->pidfd < 0)
		die("pidfd_open: %m");
	/* Waits until the child has set its name. */
	char path[64], seen[32];
	snprintf(path, sizeof(path), "/proc/%d/comm", r->pid);
	for (int tries = 0; tries < 500; tries++) {
		int fd = open(path, O_RDONLY);
		ssize_t n = fd < 0 ? -1 : read(fd, seen, sizeof(seen));
		close(fd);
		if (n == (ssize_t)strlen(r->comm) + 1 && !memcmp(seen, r->comm, n - 1))
			return;
		usleep(10000);
	}
	die("a child did not take its name");
}

/* Returns the mount point of cgroup2, from /proc/mounts. */
static const char *find_cgroup2(void)
{
	static char path[256];
	char line[1024], kind[64];
	FILE *mounts = fopen("/proc/mounts", "r");
	bool found = false;
	while (mounts && !found && fgets(line, sizeof(line), mounts))
		found = sscanf(line, "%*s %255s %63s", path, kind) == 2 && !strcmp(kind, "cgroup2");
	if (mounts)
		fclose(mounts);
	return found ? path : NULL;
}

static void make_group(struct group *g, const char *parent, const char *name)
{
	char path[512];
	struct stat st;
	snprintf(g->path, sizeof(g->path), "%s/%s", parent, name);
	snprintf(path, sizeof(path), "%s%s", zoo.cgroup_root, g->path);
	if (mkdir(path, 0755))
		die("mkdir %s: %m", path);
	group_count++;
	g->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (g->fd < 0 || fstat(g->fd, &st))
		die("%s: %m", path);
	g->id = st.st_ino;
}

void move_in(void)
{
	char name[64];
	loader = getpid();
	atexit(move_out);
	for (int i = 0; i < RESIDENTS; i++)
		fork_resident(&residents[i], names[i]);
	zoo.cgroup_root = find_cgroup2();
	if (!zoo.cgroup_root) {
		answer_skip("other", "cgroups", "cgroup2 is not mounted");
		return;
	}
	snprintf(name, sizeof(name), "zoo.%d", loader);
	make_group(&groups[0], "", name);
	make_group(&groups[1], groups[0].path, "in ner\x01\"\xff");
	make_group(&groups[2], groups[0].path, "other");
	/* One process is in the cgroup, so that the programs attached to it run. */
	int procs = openat(groups[2].fd, "cgroup.procs", O_WRONLY);
	if (procs < 0 || dprintf(procs, "%d", residents[0].pid) < 0)
		die("cgroup.procs: %m");
	close(procs);
}
