/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Feature bits: their names, and the gate that decides what this library may do with an image.
 */

#include <stdio.h>
#include <string.h>

#include "ext4/ext4.h"

enum feature_class {
        CLASS_READ_WRITE, /* known in full */
        CLASS_READ_ONLY,  /* reading is right, writing would harm */
        CLASS_REFUSE,     /* not even reading is right */
};

enum feature_word {
        WORD_COMPAT,
        WORD_INCOMPAT,
        WORD_RO_COMPAT,
};

struct feature {
        enum feature_word word;
        uint32_t bit;
        enum feature_class class;
        const char *name; /* as tune2fs(8) spells it */
};

#define COMPAT(bit, class, name)                                    \
        {                                                           \
                WORD_COMPAT, EXT4_COMPAT_##bit, CLASS_##class, name \
        }
#define INCOMPAT(bit, class, name)                                      \
        {                                                               \
                WORD_INCOMPAT, EXT4_INCOMPAT_##bit, CLASS_##class, name \
        }
#define RO_COMPAT(bit, class, name)                                       \
        {                                                                 \
                WORD_RO_COMPAT, EXT4_RO_COMPAT_##bit, CLASS_##class, name \
        }

static const struct feature features[] = {
        COMPAT(DIR_PREALLOC, READ_WRITE, "dir_prealloc"),
        COMPAT(IMAGIC_INODES, READ_ONLY, "imagic_inodes"),
        COMPAT(HAS_JOURNAL, READ_WRITE, "has_journal"),
        COMPAT(EXT_ATTR, READ_WRITE, "ext_attr"),
        COMPAT(RESIZE_INODE, READ_WRITE, "resize_inode"),
        COMPAT(DIR_INDEX, READ_WRITE, "dir_index"),
        COMPAT(SPARSE_SUPER2, READ_WRITE, "sparse_super2"),
        COMPAT(FAST_COMMIT, READ_WRITE, "fast_commit"),
        COMPAT(STABLE_INODES, READ_WRITE, "stable_inodes"),
        COMPAT(ORPHAN_FILE, READ_WRITE, "orphan_file"),

        INCOMPAT(COMPRESSION, REFUSE, "compression"),
        INCOMPAT(FILETYPE, READ_WRITE, "filetype"),
        INCOMPAT(RECOVER, READ_WRITE, "needs_recovery"), /* ext4_mount looks at it */
        INCOMPAT(JOURNAL_DEV, REFUSE, "journal_dev"),
        INCOMPAT(META_BG, READ_WRITE, "meta_bg"),
        INCOMPAT(EXTENTS, READ_WRITE, "extent"),
        INCOMPAT(64BIT, READ_WRITE, "64bit"),
        INCOMPAT(MMP, READ_ONLY, "mmp"),
        INCOMPAT(FLEX_BG, READ_WRITE, "flex_bg"),
        INCOMPAT(EA_INODE, READ_WRITE, "ea_inode"),
        INCOMPAT(DIRDATA, REFUSE, "dirdata"),
        INCOMPAT(CSUM_SEED, READ_WRITE, "metadata_csum_seed"),
        INCOMPAT(LARGEDIR, READ_WRITE, "large_dir"),
        INCOMPAT(INLINE_DATA, READ_WRITE, "inline_data"),
        INCOMPAT(ENCRYPT, READ_WRITE, "encrypt"),
        INCOMPAT(CASEFOLD, READ_WRITE, "casefold"),

        RO_COMPAT(SPARSE_SUPER, READ_WRITE, "sparse_super"),
        RO_COMPAT(LARGE_FILE, READ_WRITE, "large_file"),
        RO_COMPAT(BTREE_DIR, READ_ONLY, "btree_dir"),
        RO_COMPAT(HUGE_FILE, READ_WRITE, "huge_file"),
        RO_COMPAT(GDT_CSUM, READ_WRITE, "uninit_bg"),
        RO_COMPAT(DIR_NLINK, READ_WRITE, "dir_nlink"),
        RO_COMPAT(EXTRA_ISIZE, READ_WRITE, "extra_isize"),
        RO_COMPAT(HAS_SNAPSHOT, READ_ONLY, "snapshot"),
        RO_COMPAT(QUOTA, READ_ONLY, "quota"),
        RO_COMPAT(BIGALLOC, READ_WRITE, "bigalloc"),
        RO_COMPAT(METADATA_CSUM, READ_WRITE, "metadata_csum"),
        RO_COMPAT(REPLICA, READ_ONLY, "replica"),
        RO_COMPAT(READONLY, READ_ONLY, "read-only"),
        RO_COMPAT(PROJECT, READ_WRITE, "project"),
        RO_COMPAT(SHARED_BLOCKS, READ_ONLY, "shared_blocks"),
        RO_COMPAT(VERITY, READ_WRITE, "verity"),
        RO_COMPAT(ORPHAN_PRESENT, READ_WRITE, "orphan_present"),
};

static uint32_t word_of(const struct ext4_super_block *sb, enum feature_word word)
{
        switch (word) {
        case WORD_COMPAT:
                return le32_get(sb->s_feature_compat);
        case WORD_INCOMPAT:
                return le32_get(sb->s_feature_incompat);
        case WORD_RO_COMPAT:
                return le32_get(sb->s_feature_ro_compat);
        }
        return 0;
}

static const struct feature *find(enum feature_word word, uint32_t bit)
{
        for (size_t i = 0; i < ARRAY_LEN(features); i++) {
                if (features[i].word == word && features[i].bit == bit)
                        return &features[i];
        }
        return NULL;
}

/* An unknown bit: a compatible one harms nobody, an ro_compat one only writers. */
static enum feature_class class_of_unknown(enum feature_word word)
{
        switch (word) {
        case WORD_COMPAT:
                return CLASS_READ_WRITE;
        case WORD_RO_COMPAT:
                return CLASS_READ_ONLY;
        case WORD_INCOMPAT:
                break;
        }
        return CLASS_REFUSE;
}

static void append(char *text, size_t size, const char *name)
{
        size_t used = strlen(text);

        snprintf(text + used, size - used, "%s%s", used ? " " : "", name);
}

/* Append the names of all bits set that are of `class`; NULL: of any. */
static void list_names(const struct ext4_super_block *sb, const enum feature_class *class,
                       char *text, size_t size)
{
        static const char letters[] = {'C', 'I', 'R'};

        text[0] = '\0';
        for (int word = WORD_COMPAT; word <= WORD_RO_COMPAT; word++) {
                uint32_t bits = word_of(sb, (enum feature_word)word);

                for (unsigned n = 0; n < 32; n++) {
                        const struct feature *f = find((enum feature_word)word, 1u << n);
                        char unknown[16];

                        if (!(bits & 1u << n))
                                continue;
                        if (class &&
                            *class !=
                                    (f ? f->class : class_of_unknown((enum feature_word)word)))
                                continue;
                        snprintf(unknown, sizeof(unknown), "FEATURE_%c%u", letters[word], n);
                        append(text, size, f ? f->name : unknown);
                }
        }
}

void ext4_feature_names(const struct ext4_super_block *sb, char *text, size_t size)
{
        list_names(sb, NULL, text, size);
}

int ext4_feature_gate(const struct ext4_super_block *sb, const struct log_sink *log,
                      char *reason, size_t size)
{
        const enum feature_class refuse = CLASS_REFUSE;
        const enum feature_class read_only = CLASS_READ_ONLY;
        char names[512];

        list_names(sb, &refuse, names, sizeof(names));
        if (names[0]) {
                log_say(log, LOG_ERR, "this image needs a feature that uext4 does not know: %s",
                        names);
                return -EOPNOTSUPP;
        }
        list_names(sb, &read_only, names, sizeof(names));
        if (names[0])
                snprintf(reason, size, "uext4 does not write images with: %s", names);
        else
                reason[0] = '\0';
        return 0;
}
