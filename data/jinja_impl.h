/* data/jinja_impl.h - tokens, nodes and values of the template interpreter. Inside data/jinja*.c
 * only.
 *
 * Functions that can fail return false after they have told why (jfail, jrefuse, or no memory). */
#ifndef DATA_JINJA_IMPL_H
#define DATA_JINJA_IMPL_H

#include "core/mem.h"
#include "data/jinja.h"

#define J_TRY(expr)                                                                                \
    do {                                                                                           \
        if (!(expr))                                                                               \
            return false;                                                                          \
    } while (0)

/* Values ----------------------------------------------------------------------------------------
 */

enum jkind {
    J_MISSING, /* an argument that was not given; no template sees it */
    J_UNDEFINED,
    J_NONE,
    J_BOOL,
    J_INT,
    J_FLOAT,
    J_STR,
    J_LIST,
    J_TUPLE,
    J_GEN,  /* a generator: yields its items once */
    J_VIEW, /* what keys(), values(), items() of a dict return */
    J_RANGE,
    J_DICT,
    J_NAMESPACE,
    J_LOOP,
    J_MACRO,
    J_FUNC,   /* a global function */
    J_METHOD, /* of a string, list, dict, loop ... */
    J_CYCLER,
    J_JOINER
};

struct jstr {
    const char *p; /* valid UTF-8 */
    size_t len;
};
struct jval {
    uint8_t kind;
    bool safe; /* J_STR: Markup */
    union {
        bool b;
        int64_t i;
        double d;
        const struct jstr *s;
        struct jlist *l; /* J_LIST, J_TUPLE, J_GEN, J_VIEW */
        struct jdict *m; /* J_DICT, J_NAMESPACE */
        const struct jundef *undef;
        const struct jrange *range;
        struct jloop *loop;
        const struct jmacro *macro;
        const struct jfunc *func;
        const struct jmethod *method;
        struct jcycler *cycler; /* J_CYCLER, J_JOINER: items[0] from the second call on */
    } u;
};
struct jlist {
    struct jval *v;
    int64_t n, cap;
    int64_t pos;      /* J_GEN: items taken */
    const char *name; /* J_VIEW, J_GEN: what it is; J_TUPLE: names of its items, or NULL */
};
struct jpair {
    struct jval key, value;
    uint32_t hash;
};
struct jdict {
    struct jpair *at; /* in the order of insertion */
    int64_t n, cap;
};
struct jundef {
    const char *hint; /* the whole message; NULL: made of the rest */
    struct jval name; /* of the variable, attribute or element */
    const char *of;   /* type of the object; NULL: a variable */
};
struct jrange {
    int64_t start, stop, step, n;
};
struct jcycler {
    struct jlist items;
    int64_t pos;
};
struct jargs {
    const struct jval *v;
    int64_t n;
    const struct jdict *kw; /* NULL: none */
};
struct jrun;
struct jfunc {
    const char *name;
    bool (*call)(struct jrun *r, const struct jargs *a, struct jval *out);
};
struct jmethod_def {
    const char *name;
    bool (*call)(struct jrun *r, const struct jval *self, const struct jargs *a, struct jval *out);
};
struct jmethod {
    struct jval self;
    const struct jmethod_def *def;
};
struct jmacro {
    const struct jnode *node;
    struct jscope *scope;
};
/* One running `for`. Items are taken from `source` one ahead of need, as `loop.last` looks. */
struct jloop {
    const struct jnode *node;
    struct jscope *scope; /* around the loop */
    struct jlist source;
    int64_t next;     /* first item of source not looked at */
    struct jlist got; /* those that passed the loop's `if` */
    int64_t index0;
    int64_t depth0;
    bool sized; /* length is known without looking */
    struct jval changed;
};
struct jvar {
    int name;
    struct jval value;
};
struct jscope {
    struct jscope *up;
    struct jvar *var;
    int n, cap;
};

/* Tokens and nodes ------------------------------------------------------------------------------
 */

enum jtok {
    T_EOF,
    T_DATA,
    T_VAR_BEGIN,
    T_VAR_END,
    T_BLOCK_BEGIN,
    T_BLOCK_END,
    T_NAME,
    T_STRING,
    T_INT,
    T_FLOAT,
    T_ADD,
    T_SUB,
    T_DIV,
    T_FLOORDIV,
    T_MUL,
    T_MOD,
    T_POW,
    T_TILDE,
    T_LBRACKET,
    T_RBRACKET,
    T_LPAREN,
    T_RPAREN,
    T_LBRACE,
    T_RBRACE,
    T_EQ,
    T_NE,
    T_GT,
    T_GE,
    T_LT,
    T_LE,
    T_ASSIGN,
    T_DOT,
    T_COLON,
    T_PIPE,
    T_COMMA,
    T_SEMICOLON,
    T_IN,   /* only as an operator of comparisons */
    T_NOTIN /* the same */
};
struct jtoken {
    uint8_t type;
    int line;
    struct jstr s; /* T_DATA, T_NAME, T_STRING, operators */
    int64_t i;
    double d;
};

enum jnode_type {
    N_CONST,
    N_NAME,
    N_NSREF,   /* name.text as a target */
    N_LIST,    /* a: items */
    N_TUPLE,   /* a: items */
    N_DICT,    /* a: key, value, key, value ... */
    N_GETATTR, /* a . text */
    N_GETITEM, /* a [ b ] */
    N_SLICE,   /* a : b : c, each may be NULL */
    N_CALL,    /* a ( b ) */
    N_FILTER,  /* a | text ( b ); a NULL: of a block */
    N_TEST,    /* a is text ( b ) */
    N_KEYWORD, /* text = a, among arguments */
    N_STAR,    /* *a */
    N_STARSTAR,
    N_COND, /* a if b else c */
    N_OR,
    N_AND,
    N_NOT,
    N_NEG,
    N_POS,
    N_BINARY,      /* a op b */
    N_CONCAT,      /* a: operands */
    N_COMPARE,     /* a, then b: N_OPERANDs */
    N_OPERAND,     /* op a */
    N_DATA,        /* value */
    N_PRINT,       /* a: expressions */
    N_IF,          /* a: test, b: body, c: else; flag: c is an elif */
    N_FOR,         /* a: target, b: iterable, c: body, d: else, e: if; flag: recursive */
    N_SET,         /* a: target, b: value */
    N_SETBLOCK,    /* a: target, b: filter or NULL, c: body */
    N_MACRO,       /* name, a: parameters (N_NAME, default in a), c: body; op: MACRO_ bits */
    N_CALLBLOCK,   /* a: N_CALL, b: N_MACRO */
    N_FILTERBLOCK, /* a: filter, c: body */
    N_WITH,        /* a: target, value, target, value ..., c: body */
    N_GENERATION,  /* c: body */
    N_BREAK,
    N_CONTINUE
};
enum { MACRO_CALLER = 1, MACRO_KWARGS = 2, MACRO_VARARGS = 4 };
/* Names that stand for themselves: the first that a template interns. */
enum { NAME_LOOP, NAME_CALLER, NAME_KWARGS, NAME_VARARGS, NAME_FIXED };

struct jnode {
    uint8_t type, op;
    bool flag;
    int line;
    int name; /* index into jinja.name */
    struct jval value;
    const struct jstr *text;
    const void *def; /* N_FILTER, N_TEST: its row; NULL: unknown, told when it is used */
    struct jnode *a, *b, *c, *d, *e;
    struct jnode *next; /* in a list */
};

struct jinja {
    struct arena mem;
    char *room; /* rest of the last piece taken from mem */
    size_t left;
    struct jnode *body;
    const struct jstr **name;
    int names, names_cap;
    bool generation;
};

/* Parsing ---------------------------------------------------------------------------------------
 */

struct jparser {
    struct jinja *t;
    struct jtoken *tok;
    int64_t n, cap, at;
    int depth, loops;
    bool soft;                   /* an unknown filter is told only when it is used */
    unsigned uses;               /* MACRO_ bits of the names seen */
    const struct jnode *unknown; /* the first unknown filter or test outside of conditions */
    struct graft_err *err;
    enum graft_status status;
};
void *jparse_alloc(struct jparser *p, size_t bytes);
bool jparse_fail(struct jparser *p, int line, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
bool jparse_refuse(struct jparser *p, int line, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Cut the template into tokens. `text` must live as long as the template. */
bool jlex(struct jparser *p, const char *text, size_t len);
struct jtoken *jpeek(struct jparser *p);
bool jis_name(const struct jtoken *t, const char *name);
bool jskip(struct jparser *p, int type);
bool jskip_name(struct jparser *p, const char *name);
bool jexpect(struct jparser *p, int type);
bool jenter(struct jparser *p);
struct jnode *jnode(struct jparser *p, int type, int line);
int jintern(struct jparser *p, const struct jstr *s);
const char *jtok_text(const struct jtoken *t, char *room); /* for messages; room: 80 bytes */
/* Expressions; NULL on failure. */
struct jnode *jparse_expr(struct jparser *p);
struct jnode *jparse_no_cond(struct jparser *p);
struct jnode *jparse_tuple(struct jparser *p, bool cond, bool explicit_empty, const char *end);
struct jnode *jparse_target(struct jparser *p, bool namespaces, const char *end);
struct jnode *jparse_filters(struct jparser *p, struct jnode *node, bool inline_first);
struct jnode *jparse_primary(struct jparser *p, bool namespaces);
bool jparse_args(struct jparser *p, struct jnode **out);

/* Running ---------------------------------------------------------------------------------------
 */

enum jflow { FLOW_NEXT, FLOW_BREAK, FLOW_CONTINUE };
struct jrun {
    const struct jinja *t;
    struct arena mem;
    char *room;
    size_t left, used;
    struct jscope *scope;
    struct jval *global; /* by name */
    struct strbuf *out;
    size_t out_start, root_len; /* root_len: bytes outside any capture, while in one */
    int captures;
    int64_t steps;
    int depth, line;
    enum jflow flow;
    const struct jinja_date *now;
    struct jinja_spans *spans;
    struct graft_err *err;
    enum graft_status status;
};

bool jfail(struct jrun *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
bool jrefuse(struct jrun *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void *jalloc(struct jrun *r, size_t bytes);
bool jsteps(struct jrun *r, int64_t n);
bool jdeeper(struct jrun *r); /* pair with r->depth-- */

static inline struct jval jbool(bool b)
{
    return (struct jval){ .kind = J_BOOL, .u.b = b };
}
static inline struct jval jint(int64_t i)
{
    return (struct jval){ .kind = J_INT, .u.i = i };
}
static inline struct jval jfloat(double d)
{
    return (struct jval){ .kind = J_FLOAT, .u.d = d };
}
static inline struct jval jnone(void)
{
    return (struct jval){ .kind = J_NONE };
}
static inline bool jis_int(const struct jval *v) /* as Python: a bool is one */
{
    return v->kind == J_INT || v->kind == J_BOOL;
}
static inline int64_t jint_of(const struct jval *v)
{
    return v->kind == J_BOOL ? v->u.b : v->u.i;
}

/* jinja_value.c */
bool jstr_ref(struct jrun *r, const char *p, size_t len, struct jval *out); /* borrows p */
bool jstr_copy(struct jrun *r, const char *p, size_t len, struct jval *out);
bool jstr_take(struct jrun *r, struct strbuf *s, struct jval *out); /* copies and releases s */
bool jlist_new(struct jrun *r, int kind, struct jval *out);
bool jlist_push(struct jrun *r, struct jlist *l, const struct jval *v);
bool jdict_new(struct jrun *r, int kind, struct jval *out);
bool jdict_set(struct jrun *r, struct jdict *m, const struct jval *key, const struct jval *value);
const struct jval *jdict_get(const struct jdict *m, const struct jval *key);
const struct jval *jdict_get_str(const struct jdict *m, const char *p, size_t len);
bool jundefined(struct jrun *r, const char *hint, const struct jval *name, const char *of,
                struct jval *out);
bool jfail_undefined(struct jrun *r, const struct jval *v);
bool jtruth(const struct jval *v);
bool jhashable(const struct jval *v);
bool jequal(struct jrun *r, const struct jval *a, const struct jval *b, bool *out);
bool jless(struct jrun *r, const struct jval *a, const struct jval *b, const char *op, bool *out);
const char *jtype(const struct jval *v); /* Python's name of the type */
bool jlen(struct jrun *r, const struct jval *v, int64_t *out);
bool jhas_len(const struct jval *v);
/* All items of an iterable; a generator is used up. */
bool jiterate(struct jrun *r, const struct jval *v, struct jlist *out);
bool jfrom_json(struct jrun *r, const json_t *v, struct jval *out);
bool jis(const struct jstr *s, const char *text);

/* jinja_print.c: str(), repr() and json.dumps() */
bool jput_str(struct jrun *r, struct strbuf *out, const struct jval *v);
bool jput_repr(struct jrun *r, struct strbuf *out, const struct jval *v);
bool jto_str(struct jrun *r, const struct jval *v, struct jval *out);
void jput_float(struct strbuf *out, double d);
bool jput_escaped(struct jrun *r, struct strbuf *out, const struct jval *v);
bool jfilter_tojson(struct jrun *r, const struct jval *in, const struct jargs *a, struct jval *out);

/* jinja_op.c */
bool jbinary(struct jrun *r, int op, const struct jval *a, const struct jval *b, struct jval *out);
bool jcompare(struct jrun *r, int op, const struct jval *a, const struct jval *b, bool *out);
bool jcontains(struct jrun *r, const struct jval *in, const struct jval *what, bool *out);
bool jnegate(struct jrun *r, const struct jval *a, bool minus, struct jval *out);
bool jgetattr(struct jrun *r, const struct jval *obj, const struct jval *name, struct jval *out);
bool jgetitem(struct jrun *r, const struct jval *obj, const struct jval *key, struct jval *out);
bool jslice(struct jrun *r, const struct jval *obj, const struct jval *start,
            const struct jval *stop, const struct jval *step, struct jval *out);
bool jadd_int(struct jrun *r, int64_t a, int64_t b, int64_t *out);

/* jinja_eval.c, jinja_exec.c */
bool jeval(struct jrun *r, const struct jnode *n, struct jval *out);
bool jcall(struct jrun *r, const struct jval *f, const struct jargs *a, struct jval *out);
bool jcall_macro(struct jrun *r, const struct jmacro *m, const struct jargs *a, struct jval *out);
bool jcall_loop(struct jrun *r, struct jloop *l, const struct jargs *a, struct jval *out);
bool jloop_ahead(struct jrun *r, struct jloop *l, int64_t upto, bool *there);
bool jeval_args(struct jrun *r, const struct jnode *list, struct jargs *out);
bool jexec(struct jrun *r, const struct jnode *list);
bool jassign(struct jrun *r, const struct jnode *target, const struct jval *v);
bool jscope_push(struct jrun *r, struct jscope *up, struct jscope **saved);
bool jscope_set(struct jrun *r, struct jscope *s, int name, const struct jval *v);
struct jmark {
    size_t at;
};
void jcapture_begin(struct jrun *r, struct jmark *m);
bool jcapture_end(struct jrun *r, const struct jmark *m, struct jval *out);
bool jwrite(struct jrun *r, const char *p, size_t len);

/* Arguments by position or name into v[0 .. count of names); J_MISSING where not given. `names` are
 * separated by commas, the first `required` must be there; "_" has no name. */
enum { JINJA_MAX_ARGS = 8 };
bool jbind(struct jrun *r, const char *what, const struct jargs *a, const char *names, int required,
           struct jval v[JINJA_MAX_ARGS]);
/* The place of `name` in the comma-separated `names`; -1 when it is not there. */
int jplace(const char *names, const struct jstr *name);
bool jarg_int(struct jrun *r, const char *what, const struct jval *v, int64_t otherwise,
              int64_t *out);
bool jarg_str(struct jrun *r, const char *what, const struct jval *v, const struct jstr **out);

/* Tables: filters, tests, methods, functions -----------------------------------------------------
 */

struct jfilter {
    const char *name;
    bool (*call)(struct jrun *r, const struct jval *in, const struct jargs *a, struct jval *out);
};
struct jtest {
    const char *name;
    bool (*call)(struct jrun *r, const struct jval *in, const struct jargs *a, bool *out);
};
extern const struct jfilter jfilters_text[], jfilters_list[];
const struct jfilter *jfilter_find(const struct jstr *name);
const struct jtest *jtest_find(const struct jstr *name);
/* Whether Jinja2 has a filter of that name that is not supported here. */
bool jfilter_unsupported(const struct jstr *name);
bool jmethod_find(struct jrun *r, const struct jval *obj, const struct jstr *name, bool *found,
                  struct jval *out);
extern const struct jmethod_def jstring_methods[];
extern const struct jfunc jfunctions[];
bool jfunction_unsupported(const struct jstr *name);

/* jinja_text.c: what Python does with strings */
bool jspace(uint32_t cp); /* str.isspace */
size_t jchar(const char *p, size_t len, uint32_t *cp);
int64_t jchars(const struct jstr *s);                /* code points */
size_t joffset(const struct jstr *s, int64_t chars); /* bytes of the first `chars` */
struct jstr jstrip(struct jstr s, const struct jstr *set, int sides); /* 1 left, 2 right */
const char *jfind(const struct jstr *in, size_t from, const struct jstr *what);
bool jsplit_lines(struct jrun *r, const struct jstr *s, bool keep, struct jval *out);
bool jmap_case(struct jrun *r, const struct jstr *s, int how, struct jval *out);
enum { CASE_UPPER, CASE_LOWER, CASE_TITLE, CASE_CAPITAL, CASE_SWAP };
bool jreplace(struct jrun *r, const struct jstr *s, const struct jstr *old, const struct jstr *new_,
              int64_t count, struct jval *out);
/* jinja_format.c */
bool jformat_percent(struct jrun *r, const struct jstr *fmt, const struct jval *arg,
                     struct jval *out);
bool jformat_braces(struct jrun *r, const struct jval *self, const struct jargs *a,
                    struct jval *out);
bool jstrftime(struct jrun *r, const struct jstr *fmt, struct jval *out);

#endif
