#compdef fixgw fixgwc
# Completion of fixgw and fixgwc in zsh, with python3-argcomplete if it is installed.
autoload -Uz bashcompinit && bashcompinit
eval "$(register-python-argcomplete fixgw fixgwc 2>/dev/null || register-python-argcomplete3 fixgw fixgwc 2>/dev/null)"
(( $+functions[_python_argcomplete] )) && _bash_complete -o nospace -o default -o bashdefault -F _python_argcomplete
