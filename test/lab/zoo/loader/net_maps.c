/* SPDX-License-Identifier: Apache-2.0 */
/* Maps of devices, CPUs and sockets. bpf(2) returns an index, an id or a cookie, and nothing for some of them. */
#include "zoo.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static __u32 prog_id(int fd)
{
	struct bpf_prog_info info = {};
	__u32 len = sizeof(info);
	return fd >= 0 && !bpf_prog_get_info_by_fd(fd, &info, &len) ? info.id : 0;
}

/* Stores an fd, which bpf(2) returns as an id. The answers list refusals. */
static void put_as(int map, const char *name, __u32 key, const void *in, const void *out, size_t size)
{
	if (bpf_map_update_elem(map, &key, in, BPF_ANY))
		answer_skip("other", name, strerror(errno));
	else
		map_entry(&key, 4, out, size, NULL);
}

static void devices(__u32 type, const char *name, const char *wide_name)
{
	__u32 lo = if_nametoindex("lo");
	int fd = raw_map(&(struct raw_map){ type, name, 4, 4, 8 });
	if (fd >= 0) {
		map_open(fd, "entries", NULL);
		put_as(fd, name, 1, &lo, &lo, 4);
		put_as(fd, name, 6, &lo, &lo, 4);
		map_close();
	}
	/* With a program: stored as an fd, returned as an id (struct bpf_devmap_val). */
	int prog = object_prog(net_object, "z_xdp_devmap");
	fd = raw_map(&(struct raw_map){ type, wide_name, 4, 8, 8 });
	if (fd >= 0) {
		const __u32 in[2] = { lo, (__u32)prog }, out[2] = { lo, prog_id(prog) };
		map_open(fd, "entries", NULL);
		if (prog >= 0)
			put_as(fd, wide_name, 2, in, out, 8);
		put_as(fd, wide_name, 3, (const __u32[2]){ lo, 0 }, (const __u32[2]){ lo, 0 }, 8);
		map_close();
	}
}

static void cpus(void)
{
	int prog = object_prog(net_object, "z_xdp_cpumap");
	int fd = raw_map(&(struct raw_map){ BPF_MAP_TYPE_CPUMAP, "z_cpumap", 4, 8, zoo.cpus });
	if (fd < 0)
		return;
	const __u32 in[2] = { 192, (__u32)(prog < 0 ? 0 : prog) }, out[2] = { 192, prog_id(prog) };
	map_open(fd, "entries", NULL);
	put_as(fd, "z_cpumap", 0, in, out, 8);
	map_close();
	fd = raw_map(&(struct raw_map){ BPF_MAP_TYPE_CPUMAP, "z_cpumap_narrow", 4, 4, zoo.cpus });
	if (fd >= 0) {
		map_open(fd, "entries", NULL);
		put_as(fd, "z_cpumap_narrow", 0, &(__u32){ 64 }, &(__u32){ 64 }, 4);
		map_close();
	}
}

static void xsk(void)
{
	int fd = raw_map(&(struct raw_map){ BPF_MAP_TYPE_XSKMAP, "z_xskmap", 4, 4, 4 });
	int sock = socket(44 /* AF_XDP */, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	map_open(fd, "keys", NULL);
	if (sock >= 0 && !bpf_map_update_elem(fd, &(__u32){ 2 }, &sock, BPF_ANY))
		map_entry(&(__u32){ 2 }, 4, "", 0, NULL);
	else
		answer_skip("other", "z_xskmap", strerror(errno));
	map_close();
}

static __u64 cookie(int fd)
{
	__u64 c = 0;
	socklen_t n = sizeof(c);
	if (getsockopt(fd, SOL_SOCKET, SO_COOKIE, &c, &n))
		die("SO_COOKIE: %m");
	return c;
}

/* An established connection over lo: [0] the client's end, [1] the server's. */
static void connection(int ends[2])
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t n = sizeof(at);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ends[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(listener, (void *)&at, sizeof(at)) || listen(listener, 1) || getsockname(listener, (void *)&at, &n) ||
	    connect(ends[0], (void *)&at, sizeof(at)) || (ends[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) < 0)
		die("a connection over lo: %m");
	close(listener);
}

static void put_socket(int map, const char *name, const void *key, size_t key_size, int sock)
{
	__u64 in = (__u64)sock, out = cookie(sock);
	if (bpf_map_update_elem(map, key, &in, BPF_ANY))
		answer_skip("other", name, strerror(errno));
	else
		map_entry(key, key_size, &out, sizeof(out), NULL);
}

static void socket_maps(void)
{
	static const char *const maps[] = { "z_sockmap", "z_sockhash" };
	for (int i = 0; i < 2; i++) {
		int ends[2], fd = object_map(net_object, maps[i]);
		if (fd < 0)
			continue;
		connection(ends);
		map_open(fd, "entries", NULL);
		for (int end = 0; end < 2; end++) {
			const char *names[] = { "client", "server" };
			__u32 index = 1 + 2 * (__u32)end;
			put_socket(fd, maps[i], i ? (const void *)names[end] : &index, i ? 6 : 4, ends[end]);
		}
		map_close();
	}
}

static void reuseport(void)
{
	int fd = object_map(net_object, "z_reuseport");
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	if (fd < 0)
		return;
	map_open(fd, "entries", NULL);
	for (__u32 i = 0; i < 3; i += 2) {
		socklen_t n = sizeof(at);
		int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		if (setsockopt(sock, SOL_SOCKET, SO_REUSEPORT, &(int){ 1 }, sizeof(int)) || bind(sock, (void *)&at, sizeof(at)) ||
		    getsockname(sock, (void *)&at, &n))
			die("SO_REUSEPORT: %m");
		put_socket(fd, "z_reuseport", &i, 4, sock);
	}
	map_close();
}

void show_net_maps(void)
{
	devices(BPF_MAP_TYPE_DEVMAP, "z_devmap", "z_devmap_progs");
	devices(BPF_MAP_TYPE_DEVMAP_HASH, "z_devmap_hash", "z_devmap_hash_p");
	cpus();
	xsk();
	if (!net_object)
		return;
	socket_maps();
	reuseport();
	int fd = object_map(net_object, "z_sockmap_progs");
	if (fd >= 0) {
		map_open(fd, "entries", NULL);
		map_close();
	}
}
