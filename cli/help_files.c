/* What the tables make beside --help: a man page, and completion for bash. */
#include <string.h>

#include "cli/options.h"

/* troff takes a line that starts with a dot or quote for a command, and a bare minus for a hyphen.
 */
static void put_troff(const char *text, struct strbuf *out)
{
    bool start = true;

    for (; *text; text++) {
        if (start && (*text == '.' || *text == '\''))
            strbuf_puts(out, "\\&");
        if (*text == '-' || *text == '\\')
            strbuf_putc(out, '\\');
        strbuf_putc(out, *text);
        start = *text == '\n';
    }
}

void help_man(struct strbuf *out)
{
    strbuf_printf(out, ".TH GRAFT 1 \"\" \"graft %s\"\n.SH NAME\n", graft_version());
    strbuf_puts(out, "graft \\- fine\\-tune language models with small adapters\n.SH SYNOPSIS\n"
                     ".B graft\n.I VERB\n[\\fIOPTION\\fR]...\n.SH VERBS\n");
    for (int i = 0; verbs[i]; i++) {
        struct strbuf help = STRBUF_INIT;

        help_verb(verbs[i], &help);
        strbuf_printf(out, ".SS %s\n.nf\n", verbs[i]->name);
        put_troff(strbuf_str(&help), out);
        strbuf_puts(out, ".fi\n");
        strbuf_release(&help);
    }
    strbuf_puts(out, ".SH EXIT STATUS\n0 done, 1 run failed, 2 wrong usage or config, 3 bad input "
                     "file, 4 device error, 129, 130 and 143 stopped by SIGHUP, SIGINT or "
                     "SIGTERM after saving.\n");
}

void help_completion(struct strbuf *out)
{
    strbuf_puts(out, "# bash completion for graft: source this file\n_graft()\n{\n"
                     "    local word=${COMP_WORDS[COMP_CWORD]} list=\n"
                     "    if [ \"$COMP_CWORD\" = 1 ]; then\n        list=\"help --version");
    for (int i = 0; verbs[i]; i++)
        strbuf_printf(out, " %s", verbs[i]->name);
    strbuf_puts(out, "\"\n    else\n        case ${COMP_WORDS[1]} in\n");
    for (int i = 0; verbs[i]; i++) {
        strbuf_printf(out, "        %s) list=\"--help --device --threads --quiet --verbose",
                      verbs[i]->name);
        for (size_t k = 0; k < verbs[i]->option_count; k++)
            if (verbs[i]->options[k].type != OPTION_LATER)
                strbuf_printf(out, " --%s", verbs[i]->options[k].name);
        strbuf_puts(out, "\" ;;\n");
    }
    strbuf_puts(out, "        esac\n    fi\n"
                     "    case $word in\n"
                     "    -*) mapfile -t COMPREPLY < <(compgen -W \"$list\" -- \"$word\") ;;\n"
                     "    *) [ \"$COMP_CWORD\" = 1 ] &&\n"
                     "        mapfile -t COMPREPLY < <(compgen -W \"$list\" -- \"$word\") ;;\n"
                     "    esac\n}\ncomplete -o default -F _graft graft\n");
}
