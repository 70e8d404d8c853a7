" Policies of mom, the memory overcommitment manager.
if exists("b:current_syntax")
  finish
endif

syntax match momPolicyComment "#.*$" contains=@Spell
syntax region momPolicyString start=+"+ skip=+\\.+ end=+"+
syntax region momPolicyString start=+'+ skip=+\\.+ end=+'+
syntax match momPolicyNumber "\v(\w|[.-])@1<!(0[xX]\x+|0o\o+|-?(\d*\.\d+([eE][-+]?\d+)?|(0|[1-9]\d*)([eE][-+]?\d+)?))(\w|\.)@!"
syntax match momPolicyForm "\v([(\[]\s*)@<=(if|let|def|defun|defvar|set|setq|with|eval|cond)(\w|[.-])@!"
syntax match momPolicyBuiltin "\v([(\[]\s*)@<=(add|sub|mul|div|lt|gt|lte|gte|eq|neq|shl|shr|and|or|not|min|max|null|valid|sqrt)(\w|[.-])@!"
syntax match momPolicyBuiltin "\v(\w|[.-])@1<!(abs|debug)(\w|[.-])@!"
syntax match momPolicyMethod "\v(\w|-)@1<=\.(Prop|Stat|StatAvg|Control|GetControl|SetVar|GetVar|Remember|Recall|setTotalBytesSec|setReadBytesSec|setWriteBytesSec|setTotalIopsSec|setReadIopsSec|setWriteIopsSec)(\w|[.-])@!"
syntax match momPolicyEntity "\v(\w|[.-])@1<!(Host|Guests)(\w|-)@!"
syntax match momPolicyNil "\v(\w|[.-])@1<!nil(\w|[.-])@!"
syntax match momPolicyOperator "\v([(\[]\s*)@<=(\<\=|\>\=|\<\<|\>\>|\=\=|!\=|[-+*/<>])"

highlight default link momPolicyComment Comment
highlight default link momPolicyString String
highlight default link momPolicyNumber Number
highlight default link momPolicyForm Statement
highlight default link momPolicyBuiltin Function
highlight default link momPolicyMethod Function
highlight default link momPolicyEntity Identifier
highlight default link momPolicyNil Constant
highlight default link momPolicyOperator Operator

let b:current_syntax = "mom-policy"
