#!/bin/sh
# Writes a C file that holds the given files byte for byte, and the table `embedded_files` (src/util/embed.h).
# Used by the Makefile: embed.sh FILE... > embed.c
echo '/* Made by src/util/embed.sh; do not edit. */'
echo '#include "util/embed.h"'
n=0
table=''
for f in "$@"; do
    n=$((n + 1))
    printf '__asm__(".section .rodata\\n.balign 16\\nembed_%d:\\n' "$n"
    printf '.incbin \\"%s\\"\\nembed_%d_end:\\n.byte 0\\n.previous\\n");\n' "$f" "$n"
    printf 'extern const unsigned char embed_%d[], embed_%d_end[];\n' "$n" "$n"
    table="$table    {\"$f\", embed_$n, embed_${n}_end},\n"
done
printf 'const struct embedded_file embedded_files[] = {\n%b    {0, 0, 0}};\n' "$table"
