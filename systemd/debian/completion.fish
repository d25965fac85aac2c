# Completion of fixgw and fixgwc in fish, with python3-argcomplete if it is installed.
for register in register-python-argcomplete register-python-argcomplete3
    if command -q $register
        for name in fixgw fixgwc
            $register --shell fish $name | source
        end
        break
    end
end
