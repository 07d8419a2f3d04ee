/* Reads and indexes a BTF file with libbpf.  btf_parse TIMES LOOPS FILE */
#include "timing.h"
#include <bpf/btf.h>

static const char *file;

static struct result parse(void)
{
	struct btf *btf = btf__parse(file, NULL);
	struct result result = { 0, 0 };

	if (!btf) {
		perror(file);
		exit(1);
	}
	result.items = btf__type_cnt(btf);
	btf__free(btf);
	return result;
}

int main(int argc, char **argv)
{
	if (argc < 4)
		return 2;
	file = argv[3];
	return measure(argv, parse);
}
