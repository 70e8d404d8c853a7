autocmd BufNewFile,BufRead *.policy setfiletype mom-policy
