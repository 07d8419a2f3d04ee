/* libbpf's reading of a BTF file: prints the milliseconds of each of N runs, one a line.  btf_parse FILE N */
#include <bpf/btf.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

int main(int argc, char **argv)
{
	int runs = argc > 2 ? atoi(argv[2]) : 1;

	if (argc < 2)
		return 2;
	for (int i = 0; i < runs; i++) {
		double start = now_ms();
		struct btf *btf = btf__parse(argv[1], NULL);

		if (!btf) {
			perror(argv[1]);
			return 1;
		}
		printf("%f %u\n", now_ms() - start, btf__type_cnt(btf));
		btf__free(btf);
	}
	return 0;
}
