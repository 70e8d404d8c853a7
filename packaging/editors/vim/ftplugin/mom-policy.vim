" Policies of mom, the memory overcommitment manager.
if exists("b:did_ftplugin")
  finish
endif
let b:did_ftplugin = 1

setlocal lisp expandtab shiftwidth=4 textwidth=100
setlocal lispwords=if,let,def,defun,defvar,set,setq,with,eval,cond
setlocal comments=:# commentstring=#\ %s iskeyword+=-
" gg=G indents the whole file; :make shows mistakes
setlocal makeprg=mom\ policy\ check\ % errorformat=%f:%l:%c:\ %m
let b:undo_ftplugin = "setlocal lisp< expandtab< shiftwidth< textwidth< lispwords< comments< commentstring< iskeyword< makeprg< errorformat<"
