/* SPDX-License-Identifier: Apache-2.0 */
/* Local storage with known owners: tasks, cgroups, inodes, sockets. Names of owners are hex, because they can be invalid UTF-8. */
#include "zoo.h"
#include "../zoo_types.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

EMBEDDED(storage);
static struct bpf_object *object;

static struct zoo_owned value_of(unsigned i)
{
	struct zoo_owned v;
	memset(&v, 0, sizeof(v));
	v.number = 0x5a00000000000000ULL + i;
	v.mood = i % 2 ? ZOO_GRUMPY : ZOO_HAPPY;
	snprintf(v.label, sizeof(v.label), "owned-%u", i);
	return v;
}

/* Stores a value for the owner of `fd` and adds it to the answers. Returns false if the kernel refuses, and adds the refusal. */
static bool store(int map, const char *map_name, int fd, const void *value, size_t size, const char *fmt, ...)
	__attribute__((format(printf, 6, 7)));
static bool store(int map, const char *map_name, int fd, const void *value, size_t size, const char *fmt, ...)
{
	char owner[1024];
	va_list args;
	if (bpf_map_update_elem(map, &fd, value, BPF_NOEXIST)) {
		answer_skip("other", map_name, strerror(errno));
		return false;
	}
	va_start(args, fmt);
	vsnprintf(owner, sizeof(owner), fmt, args);
	va_end(args);
	map_record(value, size, owner);
	return true;
}

static void on_task(int map, const char *name, const struct resident *r, const void *value, size_t size)
{
	store(map, name, r->pidfd, value, size, "\"owner\":{\"kind\":\"task\",\"pid\":%d,\"tgid\":%d,\"comm\":\"%s\"}", r->pid,
	      r->pid, hex_of(r->comm, strlen(r->comm)));
}

static void tasks(void)
{
	int map = object_map(object, "z_task");
	if (map >= 0) {
		map_open(map, "owned", NULL);
		for (unsigned i = 0; i < RESIDENTS; i++) {
			struct zoo_owned v = value_of(i);
			on_task(map, "z_task", &residents[i], &v, sizeof(v));
		}
		map_close();
	}
	map = object_map(object, "z_task_second");
	if (map >= 0) {
		map_open(map, "owned", NULL);
		for (unsigned i = 1; i < RESIDENTS; i += 2)
			on_task(map, "z_task_second", &residents[i], &(__u32){ 0xa0 + i }, 4);
		map_close();
	}
	map = object_map(object, "z_task_empty");
	if (map >= 0) {
		map_open(map, "owned", NULL);
		map_close();
	}
}

static void cgroups(void)
{
	int map = object_map(object, "z_cgroup");
	if (map < 0)
		return;
	map_open(map, "owned", NULL);
	for (int i = 0; i < group_count; i++) {
		struct zoo_owned v = value_of(100 + i);
		store(map, "z_cgroup", groups[i].fd, &v, sizeof(v), "\"owner\":{\"kind\":\"cgroup\",\"id\":\"%llu\",\"path\":\"%s\"}",
		      groups[i].id, hex_of(groups[i].path, strlen(groups[i].path)));
	}
	map_close();
}

/* Files in memory, so that no file stays on a disk. */
static void inodes(void)
{
	int map = object_map(object, "z_inode");
	if (map < 0)
		return;
	map_open(map, "owned", NULL);
	for (int i = 0; i < 3; i++) {
		struct zoo_owned v = value_of(200 + i);
		struct stat st;
		int fd = memfd_create("zoo-inode", MFD_CLOEXEC);
		if (fd < 0 || fstat(fd, &st))
			die("memfd_create: %m");
		if (!store(map, "z_inode", fd, &v, sizeof(v),
			   "\"owner\":{\"kind\":\"inode\",\"inode\":\"%llu\",\"superblock\":\"tmpfs\",\"dev\":\"%u:%u\"}",
			   (unsigned long long)st.st_ino, major(st.st_dev), minor(st.st_dev)))
			break;
	}
	map_close();
}

static void on_socket(int map, const char *name, int fd, const void *value, size_t size)
{
	int family, protocol;
	unsigned long long cookie;
	socklen_t n = sizeof(int), c = sizeof(cookie);
	if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &n) || getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &n) ||
	    getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &c))
		die("a socket: %m");
	store(map, name, fd, value, size,
	      "\"owner\":{\"kind\":\"socket\",\"family\":%d,\"protocol\":%d,\"cookie\":\"%llu\"}", family, protocol, cookie);
}

static void sockets(void)
{
	const int fds[] = { socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0),
			    socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0) };
	int map = object_map(object, "z_socket");
	if (map >= 0) {
		map_open(map, "owned", NULL);
		for (int i = 0; i < 3; i++) {
			struct zoo_owned v = value_of(300 + i);
			/* A kernel without IPv6 has no second socket. */
			if (fds[i] >= 0)
				on_socket(map, "z_socket", fds[i], &v, sizeof(v));
		}
		map_close();
	}
	map = object_map(object, "z_socket_odd");
	if (map >= 0) {
		struct zoo_packed v = { 9, 8, 7, 6, 5 };
		map_open(map, "owned", NULL);
		on_socket(map, "z_socket_odd", fds[0], &v, sizeof(v));
		map_close();
	}
}

void show_storage(void)
{
	object = object_load(&storage, NULL);
	if (!object)
		return;
	tasks();
	cgroups();
	inodes();
	sockets();
}
