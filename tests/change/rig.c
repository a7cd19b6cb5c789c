/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "rig.h"

#include <ftw.h>

#include "../lib/host.h"
#include "jbd2/format.h"

static const char pattern[16] = "\xdeSTALE\xad"
                                "BYTES\xbe\xef\xfe";

void rig_fill_pattern(void *mem, size_t len)
{
        char *p = mem;

        for (size_t i = 0; i < len; i += sizeof(pattern))
                memcpy(p + i, pattern, min_t(size_t, sizeof(pattern), len - i));
}

bool rig_has_pattern(const void *mem, size_t len)
{
        const char *p = mem;

        for (size_t i = 0; i + sizeof(pattern) <= len; i += sizeof(pattern)) {
                if (memcmp(p + i, pattern, sizeof(pattern)) == 0)
                        return true;
        }
        return false;
}

/* ---- host directories ---- */

static void write_all(int fd, const void *data, size_t size)
{
        const char *p = data;

        while (size > 0) {
                ssize_t n = write(fd, p, size);

                T_CHECK(n > 0);
                p += n;
                size -= (size_t)n;
        }
}

void rig_tree_init(struct rig_tree *tree)
{
        snprintf(tree->path, sizeof(tree->path), "%s/uext4-tree-XXXXXX", host_tmp_dir());
        T_CHECK(mkdtemp(tree->path));
}

static void path_in(const struct rig_tree *tree, const char *name, char *path, size_t size)
{
        T_CHECK((size_t)snprintf(path, size, "%s/%s", tree->path, name) < size);
}

void rig_tree_file(struct rig_tree *tree, const char *name, const void *data, size_t size)
{
        char path[512];
        int fd;

        path_in(tree, name, path, sizeof(path));
        fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
        T_CHECK(fd >= 0);
        write_all(fd, data, size);
        close(fd);
}

void rig_tree_link(struct rig_tree *tree, const char *old, const char *name)
{
        char from[512], to[512];

        path_in(tree, old, from, sizeof(from));
        path_in(tree, name, to, sizeof(to));
        T_CHECK(link(from, to) == 0);
}

void rig_tree_dir(struct rig_tree *tree, const char *name)
{
        char path[512];

        path_in(tree, name, path, sizeof(path));
        T_CHECK(mkdir(path, 0755) == 0);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
        return remove(path);
}

void rig_tree_done(struct rig_tree *tree)
{
        nftw(tree->path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* ---- images ---- */

static void fill_file(int fd, uint64_t size)
{
        static char piece[1 << 20];

        rig_fill_pattern(piece, sizeof(piece));
        for (uint64_t done = 0; done < size; done += sizeof(piece))
                write_all(fd, piece, min_t(uint64_t, sizeof(piece), size - done));
}

struct t_image rig_make(uint64_t size, const char *options, const char *tree,
                        const char *script)
{
        struct host_file f = host_file_new(NULL, size);
        struct t_image img = {.size = size, .data = t_alloc(size)};
        char words[2048];

        fill_file(f.fd, size);
        snprintf(words, sizeof(words), "-E nodiscard,lazy_itable_init=0 %s %s %s", options,
                 tree ? "-d" : "", tree ? tree : "");
        t_make_fs(f.path, words, script);
        host_file_read(&f, img.data, size);
        host_file_close(&f);
        return img;
}

char *rig_fsck(const void *image, size_t size)
{
        char *text;
        int status;

        text = host_fsck(image, size, NULL, &status);
        if (status != 0)
                return text;
        free(text);
        return NULL;
}

void rig_must_be_clean(const void *image, size_t size)
{
        char *text = rig_fsck(image, size);

        if (!text)
                return;
        fprintf(stderr, "e2fsck: %s\n", text);
        abort();
}

bool rig_super_is_whole(struct uext4_bdev *sim, const void *image, size_t size)
{
        static const enum uext4_bdev_sim_mode modes[] = {UEXT4_BDEV_SIM_NONE,
                                                         UEXT4_BDEV_SIM_ALL};
        const struct ext4_super_block *sb =
                (const void *)((const char *)image + EXT4_SUPER_OFFSET);
        bool is_one = false;
        char *other;

        if (le32_get(sb->s_feature_ro_compat) & EXT4_RO_COMPAT_METADATA_CSUM)
                return ext4_super_csum_ok(sb);
        other = t_alloc(size);
        for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
                const struct uext4_bdev_sim_survivor how = {.mode = modes[i]};

                T_CHECK(uext4_bdev_sim_survivor(sim, &how, other) == 0);
                is_one |= memcmp(other + EXT4_SUPER_OFFSET, sb, sizeof(*sb)) == 0;
        }
        free(other);
        return is_one;
}

size_t rig_find_log_super(const struct t_image *img)
{
        for (size_t pos = 1024; pos + 1024 <= img->size; pos += 1024) {
                const be32 *words = (const void *)(img->data + pos);

                if (be32_get(words[0]) == JBD2_MAGIC && be32_get(words[1]) == JBD2_SUPER_V2)
                        return pos;
        }
        return 0;
}

void rig_keep(const char *what, const void *image, size_t size)
{
        const char *dir = getenv("UEXT4_KEEP");
        char path[512];
        int fd;

        if (!dir)
                return;
        snprintf(path, sizeof(path), "%s/%s-%d.img", dir, what, (int)getpid());
        fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
        T_CHECK(fd >= 0);
        write_all(fd, image, size);
        close(fd);
        fprintf(stderr, "the image is kept: %s\n", path);
}

/* ---- mounts ---- */

int rig_mount(struct rig_mount *m, struct uext4_bdev *dev, const char *options)
{
        struct uext4_mount_params params = {
                .options = options, .log = t_log_line, .log_arg = &m->log};
        int ret;

        t_log_init(&m->log);
        m->fs = NULL;
        ret = uext4_mount_bdev(dev, &params, &m->fs);
        if (ret < 0)
                m->fs = NULL;
        return ret;
}

int rig_unmount(struct rig_mount *m)
{
        int ret = uext4_unmount(m->fs);

        T_CHECK(ret != -EBUSY);
        m->fs = NULL;
        return ret;
}

struct uext4_bdev *rig_open_image(const struct t_image *img)
{
        struct uext4_bdev *dev;

        T_CHECK(uext4_bdev_open_buffer(img->data, img->size, 0, &dev) == 0);
        return dev;
}

void rig_end(struct rig_mount *m, struct uext4_bdev *dev, struct t_image *img)
{
        T_CHECK(rig_unmount(m) == 0);
        uext4_bdev_close(dev);
        rig_must_be_clean(img->data, img->size);
        t_image_free(img);
}

/* ---- simulated devices ---- */

void rig_close_sim(struct uext4_bdev *sim, struct uext4_bdev *dev)
{
        const struct uext4_bdev_sim_survivor all = {.mode = UEXT4_BDEV_SIM_ALL};
        const size_t size = uext4_bdev_geometry(sim)->size;
        char *image = t_alloc(size);

        T_CHECK(uext4_bdev_sim_survivor(sim, &all, image) == 0);
        uext4_bdev_close(dev);
        rig_must_be_clean(image, size);
        free(image);
}

void rig_survivors(struct uext4_bdev *sim, uint64_t seed, unsigned nr_random,
                   rig_survivor_fn *fn, void *arg)
{
        static const struct {
                const char *how;
                enum uext4_bdev_sim_mode mode;
        } ways[] = {
                {"nothing survives", UEXT4_BDEV_SIM_NONE},
                {"all survives", UEXT4_BDEV_SIM_ALL},
                {"some survives", UEXT4_BDEV_SIM_RANDOM},
        };
        const size_t size = uext4_bdev_geometry(sim)->size;
        char *image = t_alloc(size);

        for (unsigned i = 0; i < 2 + nr_random; i++) {
                const size_t way = i < 2 ? i : 2;
                const struct uext4_bdev_sim_survivor how = {.mode = ways[way].mode,
                                                            .seed = seed + i};

                T_CHECK(uext4_bdev_sim_survivor(sim, &how, image) == 0);
                if (rig_super_is_whole(sim, image, size))
                        fn(arg, ways[way].how, image, size);
        }
        free(image);
}

/* ---- switches ---- */

uint64_t rig_number(const char *variable, uint64_t otherwise)
{
        const char *text = getenv(variable);

        return text && *text ? strtoull(text, NULL, 0) : otherwise;
}
